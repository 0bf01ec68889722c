#!/usr/bin/env python3
"""Runs host-harness and other collectors against the same simulator, and prints how they compare.

Every case has a simulator process of its own; every run of a collector is a process of its own, from start to end. Runs
of all collectors alternate, so that all meet the same machine; what is printed are medians, and ratios of each run to the
run of host-harness beside it.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEY = "made-up-key-of-the-us-tenant"
CLOCK = "2026-01-15T12:00:00Z"
START = "2025-01-01T00:00:00Z"
PACKAGES = {
    "tenzir": ["tenzir==6.20.0"],
    "singer": ["singer-sdk==0.54.9"],
    "airbyte": ["airbyte-cdk==7.39.1"],
    "dlt": ["dlt==1.31.0"],
}
LIST = "/idr/v2/investigations"


def rule(fault, first=6, **more):
    return {"rules": [{"path": LIST, "first": first, "fault": fault, **more}]}


# Cases: simulator's options, whether alerts are wanted, where collecting starts, faults, runs in proportion.
CASES = {
    "list": dict(what="{n} investigations listed", size=100_000, alerts=0, small=10_000),
    "alerts": dict(what="{n} investigations with about 3 alerts each", size=2_000, alerts=3, small=200),
    "alerts-50ms": dict(what="the same at 50 ms latency", size=2_000, alerts=3, small=200, latency="50ms"),
    "empty": dict(what="nothing new, as a whole process", size=20, alerts=0, small=20, start=CLOCK),
}
FAULTS = {
    "429 with Retry-After: 1, every 5th": rule({"kind": "status", "status": 429, "retry_after": "1"}, first=4, every=5),
    "three 500s at page 7": rule({"kind": "status", "status": 500}, count=3),
    "a body cut short at page 7": rule({"kind": "truncate", "bytes": 700}, count=1),
    "200 with HTML at page 7": rule({"kind": "html"}, count=1),
    "200 with {} at page 7": rule({"kind": "empty_object"}, count=1),
    "401 from page 7 on": rule({"kind": "status", "status": 401}),
}


class Simulator:
    """A vendor in a process of its own."""

    def __init__(self, host, size, alerts, latency=None, faults=None):
        self.dir = tempfile.TemporaryDirectory()
        command = [host, "simulate", "--listen", "127.0.0.1:0", "--clock", CLOCK, "--no-triage", "--growth-per-day", "0"]
        command += ["--investigations", str(size), "--alerts-per-investigation", str(alerts), "--api-key", f"us={KEY}"]
        if latency:
            command += ["--latency", latency]
        if faults:
            file = Path(self.dir.name, "faults.json")
            file.write_text(json.dumps(faults))
            command += ["--faults", str(file)]
        self.log = Path(self.dir.name, "log")
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        for _ in range(1200):
            found = re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text())
            if found:
                self.url = found.group()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"error: the simulator does not start:\n{self.log.read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()


def run(command, directory, environment=None):
    """Runs a process to its end: wall seconds, CPU seconds, MB at the peak, exit code."""
    out, err = Path(directory, "stdout"), Path(directory, "stderr")
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=directory,
        stdout=out.open("wb"),
        stderr=err.open("wb"),
        env={**os.environ, **(environment or {})},
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    return dict(wall=wall, cpu=usage.ru_utime + usage.ru_stime, mb=usage.ru_maxrss / 1024, code=process.returncode)


class Bench:
    def __init__(self, arguments):
        self.host, self.component, self.venv = arguments.host, arguments.component, arguments.venv
        self.cache = Path(arguments.work, "cache")

    def host_harness(self, url, directory, alerts, start):
        settings = ["region=us", "initial_lookback_days=390", "collect_evidence=false"]
        settings += ["collect_product_alerts=false", "collect_uninvestigated_alerts=false"]
        settings += [] if alerts else ["collect_alerts=false"]
        state = Path(directory, "state")
        command = [self.host, "poll", "--connector", self.component, "--instance", "peer", "--state", state]
        command += ["--cache", self.cache, "--out", Path(directory, "out.jsonl"), "--secret", "api_key=env:PEER_KEY"]
        command += ["--route", f"us.api.insight.rapid7.com={url}", "--clock", CLOCK]
        command += [part for setting in settings for part in ("--set", setting)]
        if start == CLOCK:
            # Nothing is new when everything was collected before.
            assert run(command, directory, {"PEER_KEY": KEY})["code"] == 0
        return command, {"PEER_KEY": KEY}

    def tenzir(self, url, directory, alerts, start):
        base = f"{url}{LIST}?size=100&sort=created_time,ASC&start_time={start}"
        headers = f'headers={{"X-Api-Key":"{KEY}","Accept-version":"investigations-preview"}}, max_retry_count=5, retry_delay=1s'
        pages = "paginate=(x => f\"%s&index={x.metadata.index+1}\" if x.metadata.index+1 < x.metadata.total_pages)"
        program = f'from_http "{base}&index=0", {headers},\n  {pages % base} {{ read_json }}\nunroll data\nthis = data\n'
        if alerts:
            program += 'each {\n  from_http f"%s%s/{$this.rrn}/alerts?size=100&index=0", %s { read_json }\n}\nunroll data\nthis = data\n' % (
                url,
                LIST,
                headers,
            )
        program += f'to_file "{directory}/out.jsonl" {{ write_ndjson }}\n'
        file = Path(directory, "t.tql")
        file.write_text(program)
        return [Path(self.venv, "bin/tenzir"), "-f", file], {}

    def singer(self, url, directory, alerts, start):
        config = Path(directory, "config.json")
        config.write_text(json.dumps({"start_date": start}))
        environment = {"PEER_URL": url, "PEER_KEY": KEY, "PEER_ALERTS": "1" if alerts else ""}
        return [Path(self.venv, "bin/python"), HERE / "tap_r7.py", "--config", config], environment

    def dlt(self, url, directory, alerts, start):
        environment = {"PEER_URL": url, "PEER_KEY": KEY, "PEER_ALERTS": "1" if alerts else "", "PEER_START": start}
        environment["RUNTIME__DLTHUB_TELEMETRY"] = "false"
        return [Path(self.venv, "bin/python"), HERE / "dlt_r7.py"], environment

    def airbyte(self, url, directory, alerts, start):
        config = {"url": url, "key": KEY, "start": start, "end": "2026-01-16T00:00:00Z"}
        import_manifest = subprocess.run(
            [str(Path(self.venv, "bin/python")), "-c", "import json,sys,yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))", str(HERE / "manifest.yaml")],
            capture_output=True,
            text=True,
            check=True,
        )
        config["__injected_declarative_manifest"] = json.loads(import_manifest.stdout)
        Path(directory, "config.json").write_text(json.dumps(config))
        stream = lambda name: {
            "stream": {"name": name, "json_schema": {}, "supported_sync_modes": ["full_refresh", "incremental"]},
            "sync_mode": "incremental" if name == "investigations" else "full_refresh",
            "destination_sync_mode": "append",
        }
        names = ["investigations", "alerts"] if alerts else ["investigations"]
        Path(directory, "catalog.json").write_text(json.dumps({"streams": [stream(name) for name in names]}))
        return [Path(self.venv, "bin/source-declarative-manifest"), "read", "--config", "config.json", "--catalog", "catalog.json"], {}

    def prepare(self, name, url, directory, alerts, start):
        method = self.host_harness if name == "host-harness" else getattr(self, name)
        return method(url, directory, alerts, start)


def records(directory):
    """How many records came out, and how many different ones. Counted in a process of its own: a process begins with the
    memory at its peak of the one that starts it, so this one has to stay small."""
    counted = subprocess.run([sys.executable, __file__, "--count", directory], capture_output=True, text=True, check=True)
    return tuple(json.loads(counted.stdout))


def count(directory):
    found = []
    lines = []
    for file in [Path(directory, "out.jsonl"), Path(directory, "stdout"), *Path(directory).glob("dlt-out/r7/*/*.jsonl*")]:
        if "/_dlt" in str(file) or not file.exists():
            continue
        if file.suffix == ".gz":
            import gzip

            lines += gzip.open(file, "rt").read().splitlines()
        else:
            lines += file.read_text(errors="replace").splitlines()
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "streamName" in record:
            record = {"rrn": record.get("sourceInfo")}
        elif record.get("type") == "RECORD":
            record = record["record"] if isinstance(record["record"], dict) and "data" not in record["record"] else record["record"]["data"]
        name = record.get("rrn") or record.get("id")
        if name and not str(name).startswith("rrn:organization"):
            found.append(name)
    return len(found), len(set(found))


def main():
    if sys.argv[1:2] == ["--count"]:
        return print(json.dumps(count(sys.argv[2])))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="target/release/host-harness", type=os.path.abspath)
    parser.add_argument("--component", default="dist/rapid7_insightidr.wasm", type=os.path.abspath)
    parser.add_argument("--venv", help="directory of a virtual environment that is made if needed and kept", type=os.path.abspath)
    parser.add_argument("--peers", nargs="*", choices=PACKAGES, default=list(PACKAGES), help="which to compare with")
    parser.add_argument("--cases", nargs="*", choices=[*CASES, "faults"], default=[*CASES, "faults"])
    parser.add_argument("--runs", type=int, default=3, help="runs of each in each case (default 3)")
    parser.add_argument("--small", action="store_true", help="a tenth of the records, to try it out")
    parser.add_argument("--results", default="target/bench-peers.json", type=os.path.abspath)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        arguments.work = work
        kept = arguments.venv
        arguments.venv = kept or str(Path(work, "venv"))
        if not Path(arguments.venv, "bin/python").exists():
            print("installing the others …", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
            packages = [package for peer in arguments.peers for package in PACKAGES[peer]]
            subprocess.run([str(Path(arguments.venv, "bin/pip")), "-q", "install", *packages], check=True)
        bench(arguments)


def bench(arguments):
    bench = Bench(arguments)
    names = ["host-harness", *arguments.peers]
    results = {}
    for case in arguments.cases:
        if case == "faults":
            continue
        about = CASES[case]
        size = about["small"] if arguments.small else about["size"]
        print(f"\n{about['what'].format(n=size)}")
        samples = {name: [] for name in names}
        with Simulator(arguments.host, size, about["alerts"], about.get("latency")) as simulator:
            # Once more than counted: the first run of host-harness compiles the component and keeps it.
            for turn in range(arguments.runs + 1):
                for name in names if turn else names[:1]:
                    with tempfile.TemporaryDirectory() as directory:
                        start = about.get("start", START)
                        command, environment = bench.prepare(name, simulator.url, directory, about["alerts"] > 0, start)
                        sample = run(command, directory, environment)
                        sample["records"], sample["unique"] = records(directory)
                        if sample["code"]:
                            print(f"  {name} ended with {sample['code']}: {Path(directory, 'stderr').read_text()[-600:]}", file=sys.stderr)
                        if turn:
                            samples[name].append(sample)
        show(samples)
        results[case] = samples
    if "faults" in arguments.cases:
        results["faults"] = faults(arguments, bench, names)
    Path(arguments.results).write_text(json.dumps(results, indent=1))
    print(f"\nall samples: {arguments.results}")


def show(samples):
    ours = samples["host-harness"]
    print(f"  {'':<14}{'wall s':>9}{'CPU s':>9}{'MB':>8}{'records':>10}{'unique':>10}{'per s':>10}{'wall : ours':>13}{'CPU : ours':>12}")
    for name, runs in samples.items():
        middle = lambda key: statistics.median(one[key] for one in runs)
        ratio = lambda key: statistics.median(one[key] / our[key] for one, our in zip(runs, ours))
        print(
            f"  {name:<14}{middle('wall'):>9.2f}{middle('cpu'):>9.2f}{middle('mb'):>8.0f}{middle('records'):>10.0f}{middle('unique'):>10.0f}"
            f"{middle('unique') / middle('wall'):>10.0f}{ratio('wall'):>13.2f}{ratio('cpu'):>12.2f}"
        )


def faults(arguments, bench, names):
    """What comes out when the vendor misbehaves once, by the exit code and the records of one run."""
    size = 4_000
    print(f"\n{size} investigations, with a fault: exit code, records that came out (and how many of them twice)")
    print(f"  {'':<38}" + "".join(f"{name:>20}" for name in names) + f"{'host-harness again':>22}")
    table = {}
    for what, profile in FAULTS.items():
        row, again = {}, ""
        for name in names:
            with Simulator(arguments.host, size, 0, faults=profile) as simulator, tempfile.TemporaryDirectory() as directory:
                command, environment = bench.prepare(name, simulator.url, directory, False, START)
                sample = run(command, directory, environment)
                sample["records"], sample["unique"] = records(directory)
                row[name] = sample
                if name == "host-harness":
                    # The next poll of its schedule, when the fault has passed.
                    request = f"curl -sf -X PUT -d '{{\"rules\":[]}}' {simulator.url}/_simulator/faults"
                    subprocess.run(request, shell=True, check=True, stdout=subprocess.DEVNULL)
                    code = run(command, directory, environment)["code"]
                    total, unique = records(directory)
                    row["host-harness again"] = dict(code=code, records=total, unique=unique)
        cell = lambda one: f"{one['code']}: {one['unique']}" + (f" (+{one['records'] - one['unique']})" if one["records"] > one["unique"] else "")
        print(f"  {what:<38}" + "".join(f"{cell(row[name]):>20}" for name in names) + f"{cell(row['host-harness again']):>22}{again}")
        table[what] = row
    return table


if __name__ == "__main__":
    if not shutil.which("curl"):
        sys.exit("error: curl is needed")
    main()
