from allaprima.cli import main

main()
