// The list of recordings: uploads and jobs one after another, and results that stay after the page is closed.

import { finishJob, remove, request, sendFile, startJob, upload } from './api.js';
import { $, count, make, percent, showText } from './dom.js';
import { lastShown, remember, remembered, rememberShown } from './memory.js';

const NO_SPEECH = 'no speech found';

export class Queue {
  // Calls show(item) to show a result and hide() when it is removed; limits() returns those of the server, and isIdle()
  // whether another result may be shown.
  constructor({ show, hide, limits, isIdle }) {
    Object.assign(this, { showResult: show, hideResult: hide, limits, isIdle, items: [], shown: null });
    // One upload and one followed job at a time, in order.
    this.uploads = this.jobs = Promise.resolve();
    addEventListener('beforeunload', event => {
      if (this.items.some(item => item.state === 'uploading')) event.preventDefault();
    });
  }

  // Lists the recordings of an earlier visit that the server still has, and shows the one that was shown last.
  async restore() {
    const last = lastShown();
    for (const { job, recording, name } of remembered()) {
      const item = this.addItem(name, 'waiting');
      Object.assign(item, { job, recording });
    }
    for (const item of [...this.items]) {
      let found;
      try {
        found = await request('GET', `api/jobs/${item.job}`);
      } catch (error) {
        if (error.status === 404) this.drop(item);
        else this.fail(item, error.message, 'unknown');
        continue;
      }
      if (found.state === 'done') {
        this.finish(item, found.result);
        if (item.job === last) this.show(item);
      } else if (found.state === 'failed') this.fail(item, found.detail);
      else this.follow(item);
    }
  }

  // Queues a file, with its transcript if there is one.
  add(file, name, speakers, transcript) {
    const first = this.items.every(item => ['done', 'failed'].includes(item.state));
    const item = this.addItem(name, 'uploading');
    // The first of several files is shown as soon as it is done.
    item.showWhenDone = first;
    this.uploads = this.uploads.then(async () => {
      if (item.signal.aborted) return;
      const report = (stage, share) => this.report(item, stage, share);
      try {
        const uploaded = await upload(file, name, this.limits(), item.signal, report);
        item.recording = uploaded.id;
        item.job = await startJob('api/diarize', { recording: uploaded.id, speakers }, item.signal, report);
      } catch (error) {
        this.end(item, error);
        return;
      }
      item.state = 'waiting';
      item.transcript = transcript;
      this.save();
      this.follow(item);
    });
  }

  // Diarizes the recording of an item again with another number of speakers; the upload is used again.
  async recount(item, speakers) {
    const { job, result } = item;
    item.job = await startJob(`api/jobs/${job}/recount`, { speakers }, undefined, () => {});
    // What is shown until the new result is there, and afterwards if there is none.
    item.before = { job, result };
    this.reset(item, 'waiting');
    this.follow(item, () => {
      item.before = null;
      remove(`api/jobs/${job}`);
      this.save();
      this.show(item);
    });
  }

  follow(item, done) {
    const { signal } = item;
    this.report(item, 'Waiting');
    this.jobs = this.jobs.then(async () => {
      if (signal.aborted) return;
      item.state = 'running';
      try {
        let { result } = await finishJob(item.job, signal, (stage, share) => this.report(item, stage, share));
        if (item.transcript) result = await this.addTranscript(item, result);
        this.finish(item, result);
        if (done) done();
        else if (!this.shown || (item.showWhenDone && this.isIdle())) this.show(item, true);
      } catch (error) {
        // A cancelled item may show its earlier result again.
        if (item.signal === signal) this.end(item, error);
      }
    });
  }

  // Sends the transcript of a recording; a transcript that is refused does not cost the result.
  async addTranscript(item, result) {
    const { name } = item.transcript;
    try {
      return await sendFile(`api/jobs/${item.job}/transcript?name=${encodeURIComponent(name)}`, item.transcript);
    } catch (error) {
      showText(item.error, error.message);
      return result;
    }
  }

  finish(item, result) {
    item.state = 'done';
    item.result = result;
    this.describe(item);
    item.progress.hidden = true;
    item.open.hidden = false;
    item.removeButton.textContent = 'Remove';
    item.removeButton.setAttribute('aria-label', `Remove ${item.name}`);
    $('status').textContent = `Done: ${item.name}, ${item.stage.textContent}`;
  }

  describe(item) {
    const found = item.result.speakers.length;
    item.stage.textContent = found ? count(found, 'speaker', 'speakers') : NO_SPEECH;
  }

  end(item, error) {
    if (!this.items.includes(item)) return;
    if (item.before) {
      Object.assign(item, { job: item.before.job, controller: new AbortController() });
      item.signal = item.controller.signal;
      this.finish(item, item.before.result);
      item.before = null;
      if (error.name === 'AbortError') $('status').textContent = `Cancelled ${item.name}`;
      else showText(item.error, error.message);
      return;
    }
    if (error.name === 'AbortError') {
      $('status').textContent = `Cancelled ${item.name}`;
      if (item.recording) remove(`api/recordings/${item.recording}`);
      this.drop(item);
    } else this.fail(item, error.message);
  }

  fail(item, message, state = 'failed') {
    item.state = state;
    item.stage.textContent = '';
    item.progress.hidden = true;
    item.error.textContent = message.startsWith(item.name) ? message : `${item.name}: ${message}`;
    item.error.hidden = false;
    item.removeButton.textContent = 'Remove';
    item.removeButton.setAttribute('aria-label', `Remove ${item.name}`);
    this.save();
  }

  report(item, stage, share) {
    item.stage.textContent = share === undefined ? `${stage} …` : `${stage} ${percent(share)}`;
    if (share === undefined) item.progress.removeAttribute('value');
    else item.progress.value = share;
  }

  addItem(name, state) {
    const item = { name, state, controller: new AbortController() };
    item.signal = item.controller.signal;
    item.stage = make('span', { className: 'stage' });
    item.progress = make('progress', { max: 1 });
    item.progress.setAttribute('aria-label', `Progress of ${name}`);
    item.open = make('button', { type: 'button', className: 'small open', hidden: true }, 'Show');
    item.open.setAttribute('aria-label', `Show ${name}`);
    item.open.addEventListener('click', () => this.show(item, true));
    item.removeButton = make('button', { type: 'button', className: 'small remove' }, 'Cancel');
    item.removeButton.setAttribute('aria-label', `Cancel ${name}`);
    item.removeButton.addEventListener('click', () => this.discard(item));
    item.error = make('p', { className: 'error', hidden: true });
    item.error.setAttribute('role', 'alert');
    item.element = make('li', { className: 'queued' }, make('b', {}, name), item.stage, item.progress,
      make('span', { className: 'row compact push-right' }, item.open, item.removeButton), item.error);
    this.items.push(item);
    $('queue').append(item.element);
    $('queue').hidden = false;
    return item;
  }

  reset(item, state) {
    item.state = state;
    item.progress.hidden = false;
    item.open.hidden = true;
    item.removeButton.textContent = 'Cancel';
    item.removeButton.setAttribute('aria-label', `Cancel ${item.name}`);
  }

  show(item, focus = false) {
    this.shown = item;
    rememberShown(item.job);
    for (const other of this.items) other.element.classList.toggle('shown', other === item);
    for (const other of this.items) other.open.setAttribute('aria-pressed', other === item);
    this.showResult(item);
    if (focus) {
      $('diarization-title').focus({ preventScroll: true });
      $('diarization').scrollIntoView({ block: 'nearest' });
    }
  }

  // Cancels an unfinished item, and removes a finished one from the server.
  discard(item) {
    const next = item.element.nextElementSibling ?? item.element.previousElementSibling;
    if (['uploading', 'waiting', 'running'].includes(item.state)) {
      item.controller.abort();
      // A job that is followed is removed where it is followed.
      if (item.state !== 'running' && item.job) remove(`api/jobs/${item.job}`);
      this.end(item, new DOMException('cancelled', 'AbortError'));
    } else {
      remove(`api/jobs/${item.job}`, `api/recordings/${item.recording}`);
      $('status').textContent = `Removed ${item.name}`;
      this.drop(item);
    }
    (next?.querySelector('button.remove') ?? $('file')).focus();
  }

  drop(item) {
    this.items = this.items.filter(other => other !== item);
    item.element.remove();
    $('queue').hidden = !this.items.length;
    if (this.shown === item) {
      this.shown = null;
      this.hideResult();
    }
    this.save();
  }

  save() {
    remember(this.items.filter(item => item.job && item.state !== 'failed')
      .map(({ job, before, recording, name }) => ({ job: before?.job ?? job, recording, name })));
  }
}
