"""The line that live_trading.log has once a minute."""

from mia_daemon.ops.performance_log import PerformanceLog


class Log(list):
    def info(self, event, **facts):
        self.append((event, facts))


def sample(count, latency_s, *, failures=0, cpu_percent=10.0, rss_mb=200.04):
    whole = {"count": count, "failures": failures, "latency_mean_s": latency_s}
    return {
        "operations": {"live_trading": whole, "predict": {**whole, "latency_mean_s": latency_s / 2, "failures": 0}},
        "process": {"cpu_percent": cpu_percent, "rss_mb": rss_mb},
    }


def test_a_line_a_minute_has_the_means_of_the_minute():
    log = Log()
    performance = PerformanceLog(log)
    performance.add(sample(1, 0.001, cpu_percent=10.0), 58.0)
    performance.add(sample(3, 0.002, cpu_percent=30.0), 59.0)
    assert log == []
    performance.add(sample(0, 0.0, cpu_percent=20.0, rss_mb=210.06), 60.0)
    facts = {
        "operation": "live_trading", "latency": 0.00175, "success": True, "memory_usage_mb": 210.1, "cpu_percent": 20.0,
        "latencies": {"predict": 0.000875},
    }  # fmt: skip
    assert log == [("performance", facts)]
    performance.add(sample(1, 0.004), 61.0)
    assert len(log) == 1
    performance.add(sample(1, 0.004), 120.1)
    assert log[1][1]["latency"] == 0.004


def test_a_minute_without_a_decision_is_a_line_too():
    log = Log()
    PerformanceLog(log).add(sample(0, 0.0), 60.0)
    assert (log[0][1]["latency"], log[0][1]["latencies"], log[0][1]["success"]) == (0.0, {}, True)


def test_a_session_that_fails_says_so_before_it_ends():
    log = Log()
    performance = PerformanceLog(log)
    performance.write(success=False)  # it failed before anything was measured
    assert log == []
    performance.add(sample(1, 0.001), 3.0)
    performance.write(success=False)
    performance.add(sample(1, 0.001, failures=1), 4.0)
    performance.write(success=True)
    assert [facts["success"] for _, facts in log] == [False, False]
