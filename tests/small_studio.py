"""`allaprima studio` for tests: its trainings are small."""

from allaprima.commands.app import main
from studios import train_small

if __name__ == "__main__":
    train_small()
    main()
