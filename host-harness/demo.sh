#!/usr/bin/env bash
# Shows the whole path on this machine in a few seconds: a stand-in for the
# vendor, two tenants in two regions, two polls, and what can be found then.
#
# HOST_HARNESS  the host-harness binary
# CONNECTOR     the connector, a WebAssembly component
set -euo pipefail

host_harness=${HOST_HARNESS:?name the host-harness binary}
connector=${CONNECTOR:?name the connector, a .wasm file}
for file in "$host_harness" "$connector"; do
    [[ -r $file ]] || { echo "error: $file is not there; build it first" >&2; exit 2; }
done

first=2026-01-15T12:00:00Z
later=2026-01-15T18:00:00Z
# The keys of the stand-in. The host takes secrets from the environment or from
# files only, so that is where they go here, too.
export DEMO_KEY_US=made-up-key-of-the-us-tenant
export DEMO_KEY_EU=made-up-key-of-the-eu-tenant

work=$(mktemp -d "${TMPDIR:-/tmp}/host-harness-demo.XXXXXX")
simulator=
clean_up() {
    if [[ -n $simulator ]]; then
        kill "$simulator" 2>/dev/null || true
        wait "$simulator" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

heading() {
    if [[ -t 1 && -z ${NO_COLOR:-} ]]; then printf '\n\e[1m== %s\e[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi
}

# Sends the simulator's clock to a time, with nothing but the shell.
set_clock() {
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'PUT /_simulator/clock HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
        "${#1}" "$1" >&3
    IFS= read -r -t 10 status <&3 || true
    exec 3>&- 3<&-
    case $status in *" 20"[0-9]*) ;; *) echo "error: the simulator did not take the time: $status" >&2; exit 1 ;; esac
}

# One cycle of one tenant: poll REGION CLOCK
poll() {
    local region=$1 clock=$2
    "$host_harness" poll --connector "$connector" --instance "acme-$region" \
        --set "region=$region" --secret "api_key=env:DEMO_KEY_${region^^}" \
        --route "$region.api.insight.rapid7.com=$url" --clock "$clock" \
        --state "$work/state" --out "$work/artifacts.jsonl"
}

heading "A stand-in for InsightIDR, with a tenant in the US and one in the EU"
"$host_harness" simulate --log-level warn --listen 127.0.0.1:0 --clock "$first" --investigations 120 \
    --api-key "us=$DEMO_KEY_US" --api-key "eu=$DEMO_KEY_EU" >"$work/simulator.txt" &
simulator=$!
url=
for _ in {1..200}; do
    if read -r line 2>/dev/null <"$work/simulator.txt" && [[ $line == *http://* ]]; then
        url=http://${line##*http://}
        break
    fi
    kill -0 "$simulator" 2>/dev/null || { echo "error: the simulator did not start" >&2; exit 1; }
    sleep 0.05
done
[[ -n $url ]] || { echo "error: the simulator did not say where it listens" >&2; exit 1; }
port=${url##*:}
for _ in {1..200}; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    sleep 0.05
done
sed '/^$/,$d' "$work/simulator.txt"

heading "First poll, $first"
poll us "$first"
poll eu "$first"

heading "Second poll, six hours later: only what is new or has changed"
set_clock "$later"
poll us "$later"
poll eu "$later"

heading "One artifact"
"$host_harness" search --state "$work/state" --json --pretty --limit 1 "stream:rapid7_insightidr ransomware" | cut -c1-600

heading "Search: severity:high, the five that were stored last"
"$host_harness" search --state "$work/state" --limit 5 severity:high

lines=$(wc -l <"$work/artifacts.jsonl")
heading "Both tenants together: $((lines)) artifacts delivered as JSON lines"
cat <<EOF
The same with a real tenant (the key in the environment, or with file:PATH in a file):

  export API_KEY=...
  $host_harness poll --connector $connector --instance my-tenant \\
      --set region=us --secret api_key=env:API_KEY \\
      --state ./state --out artifacts.jsonl
EOF
