// The server: uploads and jobs with progress, all to be stopped by an AbortSignal.

export class Refusal extends Error {
  constructor(status, body, retry = 0) {
    super(body?.detail ?? `the server answered ${status}`);
    Object.assign(this, { status, reasons: body?.reasons, retry });
  }
}

const LOST = 'the server cannot be reached; is it still running?';

export async function ask(method, path, body, signal) {
  const options = { method, signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { 'Content-Type': 'application/json' };
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refusal(0, { detail: LOST });
  }
  const told = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, told, Number(answer.headers.get('Retry-After')));
  return told;
}

// XMLHttpRequest, since fetch says nothing of how far an upload has come.
function send(file, name, signal, report) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', `api/recordings?name=${encodeURIComponent(name)}`);
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.responseType = 'json';
    request.upload.onprogress = event => report(event.loaded / Math.max(1, event.total));
    request.onload = () => request.status === 201 ? resolve(request.response)
      : reject(new Refusal(request.status, request.response, Number(request.getResponseHeader('Retry-After'))));
    request.onerror = () => reject(new Refusal(0, { detail: LOST }));
    request.onabort = () => reject(new DOMException('stopped', 'AbortError'));
    signal?.addEventListener('abort', () => request.abort(), { once: true });
    request.send(file);
  });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('stopped', 'AbortError'));
    }, { once: true });
  });
}

// A server that is busy says when to come back.
async function patiently(work, signal, report) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 429) throw error;
      report('The server is busy; trying again', undefined);
      await pause(Math.min(30, error.retry || 5), signal);
    }
  }
}

// What this page has put on the server, and takes away again.
const mine = new Set();

export function forget(...paths) {
  for (const path of paths) {
    if (mine.delete(path)) ask('DELETE', path).catch(() => {});
  }
}

addEventListener('pagehide', event => {
  if (event.persisted) return;
  for (const path of mine) fetch(path, { method: 'DELETE', keepalive: true });
});

export async function upload(file, name, limits, signal, report) {
  if (limits && file.size > limits.megabytes * 1e6) {
    throw new Refusal(413, { detail: `${name} is too large: up to ${limits.megabytes} megabytes are taken` });
  }
  const words = share => report('Uploading', share);
  const held = await patiently(() => send(file, name, signal, words), signal, report);
  mine.add(`api/recordings/${held.id}`);
  return held;
}

const STAGES = { listening: 'Listening', separating: 'Separating the voices', drawing: 'Drawing', comparing: 'Comparing' };

// Starts a job and follows it; resolves to the job with its result.
export async function run(verb, body, signal, report) {
  const job = await patiently(() => ask('POST', `api/${verb}`, body, signal), signal, report);
  const path = `api/jobs/${job.id}`;
  mine.add(path);
  try {
    await follow(path, signal, report);
    const over = await ask('GET', path, undefined, signal);
    if (over.state !== 'done') throw new Refusal(over.status, { detail: over.detail ?? 'the job was cancelled' });
    return { ...over, path };
  } catch (error) {
    forget(path);
    throw error;
  }
}

function follow(path, signal, report) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`${path}/events`);
    let lost = 0;
    const end = (settle, value) => { events.close(); settle(value); };
    signal?.addEventListener('abort', () => end(reject, new DOMException('stopped', 'AbortError')), { once: true });
    events.onmessage = event => {
      lost = 0;
      const job = JSON.parse(event.data);
      if (['done', 'failed', 'cancelled'].includes(job.state)) return end(resolve);
      if (job.state === 'waiting') report(`Waiting: ${job.ahead} before this`, undefined);
      else report(STAGES[job.stage] ?? 'Working', job.progress);
    };
    // It reconnects by itself, every few seconds, unless the server says no. Then, and after some tries, asking
    // for the job itself tells why.
    events.onerror = () => { if (events.readyState === EventSource.CLOSED || ++lost > 4) end(resolve); };
  });
}
