"""Prices random scenarios a second time and compares the forecast's totals with its own.

It knows the billing rules from AWS's pages (docs/costs.md) and the prices from the price book, and nothing of how
cirrusbench computes: of a forecast it reads the totals only, never its lines. Standard library, decimals throughout.

    python3 tools/recompute.py bin/cirrusbench [scenarios, 200] [seed, 1]
"""
import calendar
import json
import os
import random
import subprocess
import sys
import tempfile
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, getcontext

getcontext().prec = 60
D = Decimal
KIB, GIB = D(1024), D(2) ** 30
HERE = os.path.dirname(os.path.abspath(__file__))


def ceil(x):
    return x.to_integral_value(rounding=ROUND_CEILING)


def chunks(size, unit):
    """How many billed units a size makes: every started one, and at least one."""
    return max(D(1), ceil(D(size) / unit))


class Book:
    def __init__(self, path, region):
        with open(path) as f:
            prices = json.load(f)["prices"]
        self.prices = {p["service"] + "." + p["dimension"]: p for p in prices if p["region"] == region}

    def tiers(self, name):
        return sorted(((D(t["from"]), D(t["price"])) for t in self.prices[name]["tiers"]))

    def cost(self, name, quantity):
        total, tiers = D(0), self.tiers(name)
        for i, (start, price) in enumerate(tiers):
            end = tiers[i + 1][0] if i + 1 < len(tiers) else quantity
            total += max(D(0), min(quantity, end) - start) * price
        return total


class Month:
    """Usage of one month. What is added under one name is priced together, behind what is free."""

    def __init__(self, book, free):
        self.book, self.free = book, free
        self.used, self.given, self.stated = {}, {}, D(0)

    def add(self, name, quantity, free=D(0)):
        self.used[name] = self.used.get(name, D(0)) + quantity
        if self.free:
            self.given[name] = max(self.given.get(name, D(0)), free)

    def total(self):
        return self.stated + sum(
            (self.book.cost(n, max(D(0), q - self.given.get(n, D(0)))) for n, q in self.used.items()), D(0))


def erlang_b(servers, load):
    blocked = D(1)
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked


def lambda_month(m, functions, requests, hours, scale, payload):
    free_requests, free_seconds = D(1000000), D(400000)
    for arch in ("x86_64", "arm64"):  # the free tier comes off the dearer processor first
        suffix = "x86" if arch == "x86_64" else "arm"
        count = free_count = D(0)
        durations = {}
        for f in functions:
            if f["arch"] != arch:
                continue
            n = requests
            if "batch" in f:
                n = requests / D(f["batch"])
            if "per_request" in f:
                n = requests * D(f["per_request"])
            calls = n
            if f.get("async"):
                calls *= 1 + (chunks(payload - 256 * KIB, 64 * KIB) if payload > 256 * KIB else 0)
            count += calls
            b = f["billed"]
            mean = D(b["mean_ms"]) if "mean_ms" in b else (
                (1 - D(b["cold_share"])) * D(b["warm_ms"]) + D(b["cold_share"]) * D(b["cold_ms"]))
            gb = D(f["memory_mb"]) / 1024
            seconds = n * mean / 1000 * gb
            if "provisioned" in f:
                p = f["provisioned"]
                day = D(p.get("hours_per_day", 24)) / 24
                configured = ceil(hours * day * 3600 / 300) * 300
                m.add("lambda.provisioned-concurrency-" + suffix, gb * p["environments"] * configured)
                load = n / (hours * 3600) * mean / 1000
                share = (1 - erlang_b(p["environments"], load)).quantize(D("0.000001"), ROUND_HALF_UP) * day
                m.add("lambda.provisioned-duration-" + suffix, seconds * share)
                seconds -= seconds * share
            else:
                free_count += calls
            name = "lambda." + ("savings-plan-%s-%s" % (f["savings_plan"], suffix) if "savings_plan" in f else "duration-" + suffix)
            used, may = durations.get(name, (D(0), D(0)))
            durations[name] = (used + seconds, may + (D(0) if "provisioned" in f else seconds))
            storage = max(D(0), D(f.get("ephemeral_mb", 512)) - 512)
            m.add("lambda.ephemeral-storage", n * mean / 1000 * storage / 1024)
            if "snapstart" in f:
                s = f["snapstart"]
                m.add("lambda.snapstart-cache", gb * D(s["versions"]) * hours * 3600)
                m.add("lambda.snapstart-restore", n * D(s["restores_per_invocation"]) * gb)
            if "streamed_bytes" in f:
                m.add("lambda.response-streaming", n * max(D(0), D(f["streamed_bytes"]) - 6 * KIB * KIB) / GIB, D(100))
            if "durable" in f:
                d = f["durable"]
                m.add("lambda.durable-operations", n * D(d["operations_per_invocation"]))
                m.add("lambda.durable-data-written", n * D(d["bytes_per_invocation"]) / GIB)
                m.add("lambda.durable-data-retained", D(d["retained_gb"]) * scale)
            if "pollers" in f:
                m.add("lambda.esm-poller-unit-" + f["pollers"]["source"], D(f["pollers"]["units"]) * hours)
        if not durations:
            continue
        off = min(free_requests, free_count)
        m.add("lambda.requests" + ("" if suffix == "x86" else "-arm"), count, off)
        free_requests -= off
        for name, (used, may) in durations.items():
            off = min(free_seconds, may)
            m.add(name, used, off)
            free_seconds -= off


def records_of(s, key, requests, scale, size):
    if "gb" in s:
        return D(s["gb"]) * scale * GIB / D(size)
    return requests * D(s.get(key, 1))


def servers(s, each, least, requests, hours):
    if "cpu_ms_per_request" not in s:
        return least
    rate = requests / (hours * 3600) * D(s["peak"])
    return max(least, ceil(rate * D(s["cpu_ms_per_request"]) / 1000 / D(s["utilisation"]) / each))


def service_month(m, key, s, requests, hours, scale, payload):
    if key == "apigateway":
        if s == "rest":
            m.add("apigateway.rest-requests", requests)
        else:
            m.add("apigateway.http-requests", requests * chunks(payload, 512 * KIB))
    elif key == "websocket":
        m.add("apigateway.websocket-messages", requests * D(s["messages_per_request"]) * chunks(s["message_bytes"], 32 * KIB))
        m.add("apigateway.websocket-connection-minutes", requests * D(s["minutes_per_request"]))
    elif key == "s3":
        m.add("s3.put-copy-post-list", requests * D(s["puts_per_request"]))
        m.add("s3.get-and-other", requests * D(s["gets_per_request"]))
        m.add("s3.standard-storage", D(s["storage_gb"]) * scale)
    elif key == "logs":
        name = {"vended": "ingest-vended-lambda", "custom": "ingest-custom-standard", "vended-s3": "vended-delivery-s3-or-firehose",
                "vended-ia": "ingest-vended-lambda-ia", "custom-ia": "ingest-custom-ia"}[s["kind"]]
        gb = D(s["gb"]) * scale if "gb" in s else requests * (D(s["bytes_per_request"]) + 26 * D(s["events_per_request"])) / GIB
        m.add("cloudwatch-logs." + name, gb, D(0) if s["kind"] == "vended-s3" else D(5))
        m.add("cloudwatch-logs.storage", D(s["storage_gb"]) * scale)
        m.add("cloudwatch-logs.insights-scanned", D(s["insights_gb"]) * scale)
    elif key == "kinesis":
        size = D(s["record_bytes"])
        n = records_of(s, "records_per_request", requests, scale, size)
        if "shards" in s:
            shard_hours = D(s["shards"]) * hours
            m.add("kinesis.shard-hour", shard_hours)
            m.add("kinesis.put-payload-unit", n * chunks(size, 25 * KIB))
            if D(s["retention_h"]) > 24:
                m.add("kinesis.extended-retention", shard_hours)
            m.add("kinesis.efo-consumer-shard-hour", shard_hours * D(s["fan_out"]))
            m.add("kinesis.efo-data", n * size / GIB * D(s["fan_out"]))
        else:
            m.add("kinesis.ondemand-stream-hour", hours)
            m.add("kinesis.ondemand-data-in", n * chunks(size, KIB) * KIB / GIB)
            m.add("kinesis.ondemand-data-out", n * size / GIB * D(s["consumers"]))
            m.add("kinesis.ondemand-efo-out", n * size / GIB * D(s["fan_out"]))
    elif key == "firehose":
        n = records_of(s, "records_per_request", requests, scale, s["record_bytes"])
        m.add("firehose.ingest-direct-put-or-kinesis", n * chunks(s["record_bytes"], 5 * KIB) * 5 * KIB / GIB)
    elif key == "sqs":
        n = records_of(s, "messages_per_request", requests, scale, s["message_bytes"])
        calls = n / D(s["batch"])
        carrying = chunks(D(s["message_bytes"]) * s["batch"], 64 * KIB)
        billed = calls * carrying * min(2, s["calls_per_message"]) + (calls if s["calls_per_message"] == 3 else 0)
        billed += D(s["idle_pollers"]) * hours * 3600 / 20
        m.add("sqs.requests-" + ("fifo" if s["fifo"] else "standard"), billed, D(1000000))
    elif key == "dynamodb":
        m.add("dynamodb.write-request-unit", requests * D(s["writes_per_request"]) * chunks(s["item_bytes"], KIB))
        m.add("dynamodb.read-request-unit", requests * D(s["reads_per_request"]) * chunks(s["item_bytes"], 4 * KIB) / (2 if s["eventual"] else 1))
        m.add("dynamodb.storage", D(s["storage_gb"]) * scale)
    elif key == "ec2":
        m.add("ec2.linux-%s.%s" % ("reserved" if s["reserved"] else "on-demand", s["type"]), D(s["count"]) * hours)
    elif key == "vcpu":
        nodes = servers(s, D(s["cpus"]), D(s["nodes"]), requests, hours)
        m.stated += D(s["price_hour"]) * D(s["cpus"]) * nodes * hours
    elif key == "fargate":
        suffix = "x86" if s["arch"] == "x86_64" else "arm"
        tasks = servers(s, D(s["vcpu"]), D(s["tasks"]), requests, hours)
        m.add("fargate.fargate-vcpu-hour-" + suffix, tasks * hours * D(s["vcpu"]))
        m.add("fargate.fargate-gb-hour-" + suffix, tasks * hours * D(s["memory_gb"]))
    elif key == "msk":
        m.add("msk.broker-hour." + s["type"], D(s["brokers"]) * hours)
        m.add("msk.storage", D(s["gb"]) * D(s["brokers"]))
    elif key == "alb":
        m.add("elb.alb-hour", hours)
        m.add("elb.alb-lcu-hour", D(s["lcus"]) * scale * hours)
    elif key == "eks":
        m.add("eks.cluster-hour" + ("-extended-support" if s["extended_support"] else ""), D(s["clusters"]) * hours)
    elif key == "nat":
        m.add("vpc.nat-hour", D(s["gateways"]) * hours)
        m.add("vpc.nat-gb", requests * D(s["bytes_per_request"]) / GIB)
    elif key == "transfer":
        m.add("data-transfer.internet-out", D(s["internet_gb"]) * scale, D(100))
        m.add("data-transfer.inter-az", 2 * D(s["zone_gb"]) * scale)
        m.add("data-transfer.inter-region-us-or-eu", D(s["region_gb"]) * scale)
    elif key == "lmi":
        od = m.book.tiers("ec2.linux-on-demand." + s["type"])[0][1]
        fee = m.book.tiers("lambda.managed-instances-fee")[0][1]
        m.stated += D(s["count"]) * hours * od * (1 + fee)
        m.stated += requests * m.book.tiers("lambda.requests")[0][1]
    elif key == "ops":
        m.stated += D(s["monthly_usd"])
    else:
        raise KeyError(key)


def totals(book, s, a):
    """The total of every month of one architecture."""
    t = dict(s["traffic"])
    per_hour = D(t["requests_per_hour"]) if "requests_per_hour" in t else (
        D(t["clusters"]) * D(t["per_cluster_per_hour"]) if "clusters" in t else D(t["concurrency"]) * 3600000 / D(t["mean_ms"]))
    year, month = map(int, s["start"].split("-"))
    out = []
    for i in range(s["months"]):
        y, mo = year + (month - 1 + i) // 12, (month - 1 + i) % 12 + 1
        hours = {"30d": D(720), "730h": D(730), "calendar": D(24 * calendar.monthrange(y, mo)[1])}[s["month"]]
        scale = (1 + D(s["growth_monthly"])) ** i
        requests = per_hour * hours * scale
        m = Month(book, s["free_tier"])
        functions = a.get("lambda", [])
        lambda_month(m, functions if isinstance(functions, list) else [functions], requests, hours, scale, D(t["payload_bytes"]))
        for key, service in a.items():
            if key != "lambda":
                service_month(m, key, service, requests, hours, scale, D(t["payload_bytes"]))
        out.append(m.total())
    return out


def random_scenario(r):
    def num(low, high, places=0):
        return str(D(r.randint(int(low * 10 ** places), int(high * 10 ** places))).scaleb(-places))

    def size():
        return r.choice([r.randint(1, 300), r.randint(300, 9000), r.randint(9000, 70000), r.randint(70000, 2000000), 1024, 25600, 25601, 65536, 65537, 524288])

    def log(low, high):
        return str(D(int(10 ** r.uniform(low, high))))

    def maybe(d, key, value, chance=0.25):
        if r.random() < chance:
            d[key] = value

    def function(name):
        f = {"name": name, "arch": r.choice(["arm64", "x86_64"]), "memory_mb": r.choice([128, 256, 333, 512, 1024, 1769, 3008, 10240])}
        f["billed"] = r.choice([{"mean_ms": num(1, 3000, 3)}, {"warm_ms": num(1, 500, 2), "cold_ms": num(100, 9000), "cold_share": num(0, 0.2, 4)}])
        if r.random() < 0.4:
            f[r.choice(["batch", "per_request"])] = r.choice(["1", "2", "4", "8", "500", "0.25"])
        maybe(f, "ephemeral_mb", r.randint(512, 10240))
        maybe(f, "async", True)
        maybe(f, "streamed_bytes", r.randint(1, 20000000))
        maybe(f, "savings_plan", r.choice(["1y-no-upfront", "all-upfront"]))
        maybe(f, "provisioned", {"environments": r.randint(1, 60), "hours_per_day": num(1, 24)}, 0.15)
        maybe(f, "snapstart", {"versions": r.randint(0, 3), "restores_per_invocation": num(0, 0.1, 4)}, 0.15)
        maybe(f, "durable", {"operations_per_invocation": num(0, 5), "bytes_per_invocation": num(0, 9999), "retained_gb": num(0, 50)}, 0.15)
        maybe(f, "pollers", {"source": r.choice(["sqs", "kafka"]), "units": r.randint(2, 5)}, 0.15)
        return f

    def volume(d, key):
        d.update(r.choice([{"gb": log(0, 6)}, {key: num(0, 5, 2)}, {}]))
        return d

    def scaled(d):
        if r.random() < 0.5:
            d.update({"cpu_ms_per_request": num(0.1, 20, 2), "utilisation": num(0.2, 1, 2), "peak": num(1, 4, 1)})
        return d

    def service(key):
        return {
            "apigateway": lambda: r.choice(["http", "rest"]),
            "websocket": lambda: {"messages_per_request": num(0, 9, 1), "message_bytes": size(), "minutes_per_request": num(0, 2, 3)},
            "s3": lambda: {"puts_per_request": num(0, 2, 3), "gets_per_request": num(0, 5, 2), "storage_gb": log(0, 6)},
            "logs": lambda: dict({"kind": r.choice(["vended", "custom", "vended-s3", "vended-ia", "custom-ia"]), "storage_gb": log(0, 5), "insights_gb": log(0, 4)},
                                 **r.choice([{"gb": log(0, 5)}, {"bytes_per_request": num(0, 5000), "events_per_request": num(0, 9)}])),
            "kinesis": lambda: volume(dict({"record_bytes": size(), "fan_out": r.randint(0, 2)}, **r.choice(
                [{"shards": r.randint(1, 200), "retention_h": r.choice([24, 25, 168])}, {"consumers": r.randint(0, 3)}])), "records_per_request"),
            "firehose": lambda: volume({"record_bytes": size()}, "records_per_request"),
            "sqs": lambda: volume({"message_bytes": size(), "calls_per_message": r.randint(1, 3), "batch": r.randint(1, 10), "fifo": r.random() < 0.3,
                                   "idle_pollers": r.randint(0, 5)}, "messages_per_request"),
            "dynamodb": lambda: {"item_bytes": size(), "writes_per_request": num(0, 3, 2), "reads_per_request": num(0, 3, 2), "eventual": r.random() < 0.5, "storage_gb": log(0, 4)},
            "ec2": lambda: {"type": "m7i.2xlarge", "count": r.randint(0, 20), "reserved": r.random() < 0.5},
            "vcpu": lambda: scaled({"price_hour": num(0.01, 0.2, 4), "cpus": num(0.1, 8, 1), "nodes": r.randint(0, 9)}),
            "fargate": lambda: scaled({"arch": r.choice(["arm64", "x86_64"]), "vcpu": r.choice(["0.25", "0.5", "1", "4"]), "memory_gb": num(0.5, 16, 1), "tasks": r.randint(0, 9)}),
            "msk": lambda: {"type": r.choice(["kafka.m5.large", "kafka.m7g.2xlarge"]), "brokers": r.randint(1, 9), "gb": log(0, 4)},
            "alb": lambda: {"lcus": num(0, 50, 2)},
            "eks": lambda: {"clusters": r.randint(0, 4), "extended_support": r.random() < 0.5},
            "nat": lambda: {"gateways": r.randint(0, 4), "bytes_per_request": size()},
            "transfer": lambda: {"internet_gb": log(0, 6), "zone_gb": log(0, 5), "region_gb": log(0, 5)},
            "lmi": lambda: {"type": "m7g.xlarge", "count": r.randint(0, 9)},
            "ops": lambda: {"monthly_usd": num(0, 9999, 2)},
        }[key]()

    keys = ["apigateway", "websocket", "s3", "logs", "kinesis", "firehose", "sqs", "dynamodb", "ec2", "vcpu", "fargate", "msk", "alb", "eks", "nat", "transfer", "lmi", "ops"]
    traffic = r.choice([
        lambda: {"requests_per_hour": log(0, 8)},
        lambda: {"clusters": num(0, 5000, 1), "per_cluster_per_hour": num(1, 3000)},
        lambda: {"concurrency": num(1, 2000), "mean_ms": num(5, 2000)},
    ])()
    traffic["payload_bytes"] = size()
    s = {
        "version": 1, "region": "us-east-1", "month": r.choice(["calendar", "30d", "730h"]),
        "start": "%d-%02d" % (r.randint(2026, 2028), r.randint(1, 12)), "months": r.randint(1, 26),
        "growth_monthly": r.choice(["0", "0.02", "-0.03", "0.137"]), "free_tier": r.random() < 0.5,
        "traffic": traffic, "architectures": {},
    }
    for i in range(r.randint(1, 4)):
        a = {key: service(key) for key in r.sample(keys, r.randint(0, 6))}
        if r.random() < 0.8 or not a:
            functions = [function("f%d" % k) for k in range(r.randint(1, 3))]
            a["lambda"] = functions if len(functions) > 1 or r.random() < 0.5 else functions[0]
        s["architectures"]["a%d" % i] = a
    return s


def cents(x):
    return D(x).quantize(D("0.01"), ROUND_HALF_UP)


def main():
    binary = sys.argv[1]
    count, seed = int((sys.argv + ["", ""])[2] or 200), int((sys.argv[3:] or ["1"])[0])
    book = Book(os.path.join(HERE, "..", "internal", "cost", "book", "prices.json"), "us-east-1")
    r, compared, used, bad = random.Random(seed), 0, set(), []
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "scenario.yaml")
        for n in range(count):
            s = random_scenario(r)
            with open(path, "w") as f:
                json.dump(s, f)  # YAML takes JSON
            run = subprocess.run([binary, "forecast", "--scenario", path, "-o", "json"], capture_output=True, text=True)
            if run.returncode != 0:
                sys.exit("recompute: scenario %d: exit code %d\n%s\n%s" % (n, run.returncode, run.stderr, json.dumps(s)))
            for result in json.loads(run.stdout)["architectures"]:
                a = s["architectures"][result["name"]]
                used.update(a)
                months = totals(book, s, a)
                want = {"month_1_usd": months[0], "year_1_usd": sum(months[:12]), "total_usd": sum(months)}
                got = {key: D(result[key]) for key in want}
                for i, month in enumerate(months):
                    want[i], got[i] = month, D(result["months"][i]["total_usd"])
                compared += len(want)
                for key, value in want.items():
                    if cents(value) != cents(got[key]) and abs(value - got[key]) > D("0.0001"):
                        bad.append("scenario %d, %s, %s: forecast %s, recomputed %s\n  %s" % (n, result["name"], key, got[key], value, json.dumps(a)))
    if bad:
        sys.exit("recompute: %d of %d amounts differ\n%s" % (len(bad), compared, "\n".join(bad[:10])))
    if len(used) < 15:
        sys.exit("recompute: only %s were drawn" % sorted(used))
    print("recompute: %d amounts of %d random scenarios (seed %d) with %d kinds of services agree to the cent" % (compared, count, seed, len(used)))


if __name__ == "__main__":
    main()
