"""The studio's worker for tests: it saves often, and looks at little."""

from functools import partial

from allaprima.commands import worker
from allaprima.insight import report
from allaprima.train import run, trainer

if __name__ == "__main__":
    run.KEEP_EVERY, trainer.BALANCE = 2, 2
    report.COMPARED, report.COMPARED_SIZE, report.ITERATIONS = 1, 64, 1
    worker.make_settings = partial(worker.make_settings, size=64)
    worker.main()
