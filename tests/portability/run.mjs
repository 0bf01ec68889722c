// Runs the connector in another engine and another host than ours, and compares what comes of it.
//
// Why: the contract must not lean on what only wasmtime or host-harness does. Here the component is turned into JavaScript
// by jco, runs in V8 with that project's WASI, and is called by the hundred lines below: a fresh instance for each step, the API key added
// outside of it, small steps. Its artifacts must be those of host-harness, byte for byte.
// Not guaranteed: any of the sandbox. There are no limits here, and no policy.
//
// usage: node run.mjs HOST_HARNESS CONNECTOR

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { transpile } from '@bytecodealliance/jco-transpile';
import { cli, clocks, http, io, random } from '@bytecodealliance/preview2-shim';

const KEY = 'made-up-key-of-the-us-tenant';
const CLOCK = '2026-01-15T12:00:00Z';
const HOST = 'us.api.insight.rapid7.com';
const SETTINGS = { region: 'us', initial_lookback_days: 390, collect_comments: true };
// Small, so that there are many steps, which end in the middle of pages and of investigations.
const BUDGET = { requests: 60, artifacts: 50, artifactBytes: 1n << 20n, wallTimeMilliseconds: 60_000n };

/** The stand-in for the vendor, and its address. */
async function simulate(host) {
  const world = ['--investigations', '250', '--alerts-per-investigation', '3', '--growth-per-day', '0'];
  const command = ['simulate', '--listen', '127.0.0.1:0', '--clock', CLOCK, '--api-key', `us=${KEY}`, ...world];
  const process = spawn(host, command, { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  for await (const chunk of process.stdout) {
    said += chunk;
    const address = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
    if (address) {
      process.stdout.destroy();
      return { process, address: new URL(address[0]) };
    }
  }
  throw new Error(`the simulator does not start: ${said}`);
}

/** What host-harness collects: JSON of artifacts by id. */
function collectWithHost(host, component, address, work) {
  const out = join(work, 'artifacts.jsonl');
  const settings = Object.entries(SETTINGS).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  const command = ['poll', '--connector', component, '--instance', 'other', '--state', join(work, 'state'), '--out', out];
  command.push('--secret', 'api_key=env:PORTABILITY_KEY', '--route', `${HOST}=${address.origin}`, '--clock', CLOCK, ...settings);
  const { status, stderr } = spawnSync(host, command, { encoding: 'utf8', env: { ...process.env, PORTABILITY_KEY: KEY } });
  if (status !== 0) throw new Error(`host-harness poll ended with ${status}:\n${stderr}`);
  const lines = readFileSync(out, 'utf8').split('\n').filter(Boolean);
  return new Map(lines.map((line) => [JSON.parse(line).id, line]));
}

/** What makes a fresh instance of the connector that sees the vendor at this address. */
async function engine(component, address, work) {
  const name = 'connector';
  const { files } = await transpile(component, { name, instantiation: 'sync', tracing: false });
  for (const [file, contents] of Object.entries(files)) writeFileSync(join(work, basename(file)), contents);
  writeFileSync(join(work, 'package.json'), '{"type":"module"}');
  const { instantiate } = await import(pathToFileURL(join(work, `${name}.js`)));
  const { OutgoingRequest } = http.types;
  const key = new TextEncoder().encode(KEY);
  class WithKey extends OutgoingRequest {
    constructor(headers) {
      headers.append('x-api-key', key);
      super(headers);
    }
  }
  const handle = (request, options) => {
    if (request.authority() !== HOST) throw new Error(`a request to ${request.authority()}`);
    request.setScheme({ tag: 'HTTP' });
    request.setAuthority(address.host);
    return http.outgoingHandler.handle(request, options);
  };
  const now = () => ({ seconds: BigInt(Date.parse(CLOCK) / 1_000), nanoseconds: 0 });
  const imports = {
    'wasi:cli/environment': { getEnvironment: () => [] },
    'wasi:cli/exit': cli.exit,
    'wasi:cli/stderr': cli.stderr,
    'wasi:cli/stdin': cli.stdin,
    'wasi:cli/stdout': cli.stdout,
    'wasi:cli/terminal-input': cli.terminalInput,
    'wasi:cli/terminal-output': cli.terminalOutput,
    'wasi:cli/terminal-stderr': cli.terminalStderr,
    'wasi:cli/terminal-stdin': cli.terminalStdin,
    'wasi:cli/terminal-stdout': cli.terminalStdout,
    'wasi:clocks/monotonic-clock': clocks.monotonicClock,
    'wasi:clocks/wall-clock': { ...clocks.wallClock, now },
    'wasi:http/outgoing-handler': { handle },
    'wasi:http/types': { ...http.types, OutgoingRequest: WithKey },
    'wasi:io/error': io.error,
    'wasi:io/poll': io.poll,
    'wasi:io/streams': io.streams,
    'wasi:random/insecure-seed': random.insecureSeed,
  };
  const compiled = new Map();
  const core = (file) => {
    if (!compiled.has(file)) compiled.set(file, new WebAssembly.Module(readFileSync(join(work, basename(file)))));
    return compiled.get(file);
  };
  return () => instantiate(core, imports).connector;
}

/** Polls to the end of a cycle. Gives the checkpoint, and how many steps it took. */
function cycle(fresh, settings, checkpoint, artifacts) {
  for (let steps = 1; ; steps += 1) {
    const batch = fresh().poll(settings, checkpoint, BUDGET);
    checkpoint = batch.checkpoint;
    for (const { id, json } of batch.artifacts) {
      if (artifacts.has(id)) throw new Error(`artifact ${id} comes twice`);
      artifacts.set(id, json);
    }
    for (const { stream, state } of batch.reports) {
      if (state.tag !== 'ok') throw new Error(`stream ${stream} is ${state.tag}: ${state.val.message}`);
    }
    if (!batch.more) return { checkpoint, steps };
  }
}

/** The value of a setting as the contract has it. */
function settingOf(value) {
  if (typeof value === 'boolean') return { tag: 'boolean', val: value };
  return typeof value === 'number' ? { tag: 'integer', val: BigInt(value) } : { tag: 'text', val: value };
}

async function main([host, component]) {
  if (!component) throw new Error('usage: node run.mjs HOST_HARNESS CONNECTOR');
  const work = mkdtempSync(join(tmpdir(), 'portability-'));
  const vendor = await simulate(host);
  try {
    const expected = collectWithHost(host, component, vendor.address, work);
    const fresh = await engine(component, vendor.address, work);
    const settings = Object.entries(SETTINGS).map(([key, value]) => ({ key, value: settingOf(value) }));
    const { origin } = fresh().configure(settings);
    if (origin.host !== HOST) throw new Error(`it is planned to ask ${origin.host}`);
    const artifacts = new Map();
    const first = cycle(fresh, settings, undefined, artifacts);
    for (const [id, json] of expected) {
      if (artifacts.get(id) !== json) throw new Error(`artifact ${id} is another:\n${json}\n${artifacts.get(id)}`);
    }
    if (artifacts.size !== expected.size) throw new Error(`${artifacts.size} artifacts instead of ${expected.size}`);
    if (expected.size === 0) throw new Error('nothing was collected at all');
    const second = cycle(fresh, settings, first.checkpoint, artifacts);
    if (artifacts.size !== expected.size) throw new Error('a second cycle brought something again');
    const steps = first.steps + second.steps;
    console.log(`${fresh().describe().name}: ${artifacts.size} artifacts in ${steps} steps in V8, the same to the byte as in wasmtime`);
  } finally {
    vendor.process.kill();
    rmSync(work, { recursive: true, force: true });
  }
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(`error: ${error.message ?? error}`);
    process.exit(1);
  },
);
