"""CPU and memory of processes, as the operating system counts them."""

import os

from node.usage import NO_USAGE, Usage, count_threads, read_usage, sum_usage


def test_this_process_has_used_time_and_memory() -> None:
    usage = read_usage()
    assert usage is not None
    assert usage.cpu_s > 0
    assert 5 < usage.rss_mb < 10_000


def test_a_process_that_does_not_exist_has_no_usage() -> None:
    pid_max = 1 << 22
    assert read_usage(pid_max + 1) is None


def test_a_sum_passes_over_processes_that_are_gone() -> None:
    one = sum_usage([os.getpid()])
    both = sum_usage([os.getpid(), (1 << 22) + 1])
    assert both.cpu_s >= one.cpu_s > 0
    assert sum_usage([]) == NO_USAGE


def test_usages_add_up() -> None:
    assert Usage(1.5, 20) + Usage(0.5, 30) == Usage(2.0, 50)


def test_threads_are_counted() -> None:
    assert count_threads() >= 1
