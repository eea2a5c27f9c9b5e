from allaprima.commands.app import main

main()
