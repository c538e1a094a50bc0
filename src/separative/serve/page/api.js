// Requests to the server: uploads and jobs with progress. An AbortSignal cancels them.

import { count } from './dom.js';

export class RequestError extends Error {
  constructor(status, body, retry = 0) {
    super(body?.detail ?? `The server responded with status ${status}.`);
    Object.assign(this, { status, reasons: body?.reasons, retry });
  }
}

const UNREACHABLE = 'The server cannot be reached. Check that it is running and try again.';

const aborted = () => new DOMException('cancelled', 'AbortError');

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new RequestError(0, { detail: UNREACHABLE });
  }
  const content = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new RequestError(response.status, content, Number(response.headers.get('Retry-After')));
  return content;
}

export function request(method, path, body, signal) {
  const options = { method, signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { 'Content-Type': 'application/json' };
  }
  return send(path, options);
}

// Sends a small file.
export const sendFile = (path, file) =>
  send(path, { method: 'POST', body: file, headers: { 'Content-Type': 'application/octet-stream' } });

// Uses XMLHttpRequest, because fetch does not report the progress of uploads.
function sendRecording(file, name, signal, report) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open('POST', `api/recordings?name=${encodeURIComponent(name)}`);
    xhr.setRequestHeader('Content-Type', 'application/octet-stream');
    xhr.responseType = 'json';
    xhr.upload.onprogress = event => report(event.loaded / Math.max(1, event.total));
    xhr.onload = () => xhr.status === 201 ? resolve(xhr.response)
      : reject(new RequestError(xhr.status, xhr.response, Number(xhr.getResponseHeader('Retry-After'))));
    xhr.onerror = () => reject(new RequestError(0, { detail: UNREACHABLE }));
    xhr.onabort = () => reject(aborted());
    signal?.addEventListener('abort', () => xhr.abort(), { once: true });
    xhr.send(file);
  });
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(aborted());
    }, { once: true });
  });
}

// Repeats an action while the server responds with 429 or 503 and a delay, after this delay.
async function retryWhileBusy(action, signal, report) {
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await action();
    } catch (error) {
      if (error.status !== 429 && !(error.status === 503 && error.retry)) throw error;
      report('The server is busy, trying again', undefined);
      await wait(Math.min(30, error.retry || 5), signal);
    }
  }
}

// Removes recordings and jobs from the server. What is gone already needs no message.
export const remove = (...paths) => Promise.all(paths.map(path => request('DELETE', path).catch(() => {})));

export async function upload(file, name, limits, signal, report) {
  if (limits && file.size > limits.megabytes * 1e6) {
    throw new RequestError(413, { detail: `${name} is too large. At most ${limits.megabytes} MB are allowed.` });
  }
  const reportShare = share => report('Uploading', share);
  return retryWhileBusy(() => sendRecording(file, name, signal, reportShare), signal, report);
}

const STAGES = {
  diarizing: 'Diarizing', separating: 'Separating speakers', finishing: 'Preparing waveforms', comparing: 'Comparing',
};

// Starts a job; resolves to its id.
export async function startJob(path, body, signal, report) {
  return (await retryWhileBusy(() => request('POST', path, body, signal), signal, report)).id;
}

// Follows a job until it is done; resolves to the job with its result. A cancelled job is removed.
export async function finishJob(id, signal, report) {
  const path = `api/jobs/${id}`;
  try {
    await follow(path, signal, report);
    const finished = await request('GET', path, undefined, signal);
    if (finished.state !== 'done') {
      throw new RequestError(finished.status, { detail: finished.detail ?? 'The job was cancelled. Start it again.' });
    }
    return finished;
  } catch (error) {
    if (error.name === 'AbortError') remove(path);
    throw error;
  }
}

function follow(path, signal, report) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const events = new EventSource(`${path}/events`);
    let failures = 0;
    const end = (settle, value) => { events.close(); settle(value); };
    signal?.addEventListener('abort', () => end(reject, aborted()), { once: true });
    events.onmessage = event => {
      failures = 0;
      const job = JSON.parse(event.data);
      if (['done', 'failed', 'cancelled'].includes(job.state)) return end(resolve);
      if (job.state === 'waiting') report(`Waiting for ${count(job.jobs_ahead, 'other job', 'other jobs')}`, undefined);
      else report(STAGES[job.stage] ?? 'Working', job.progress);
    };
    // The browser reconnects automatically unless the server refuses. After a refusal or five failures, the
    // request for the job that follows gives the reason.
    events.onerror = () => { if (events.readyState === EventSource.CLOSED || ++failures > 4) end(resolve); };
  });
}
