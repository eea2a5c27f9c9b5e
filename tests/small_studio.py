"""`allaprima studio` for tests: its trainings are small."""

from allaprima.commands.app import main
from allaprima.serve import trainings

if __name__ == "__main__":
    trainings.WORKER = "small_worker"  # beside this file
    main()
