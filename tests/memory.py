"""The most memory that a process had at a time, as a function in source text, for processes that tests start."""

PEAK = '''
def peak_megabytes():
    """Linux's VmHWM; ru_maxrss would begin with what the process had that started this one."""
    import resource, sys
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
'''
