// From a recording to lanes: choose, drop or record; wait or cancel; look and listen.

import { ask, forget, run, upload } from './api.js';
import { compareTwo } from './compare.js';
import { $, clock, count, enable, percent, tell } from './dom.js';
import { showGallery } from './gallery.js';
import { record } from './recorder.js';
import { Timeline } from './timeline.js';

const timeline = new Timeline();
let limits = null, stopping = null, shown = [], recording = null;

function report(words, share) {
  $('stage').textContent = share === undefined ? words : `${words} ${percent(share)}`;
  if (share === undefined) $('progress').removeAttribute('value');
  else $('progress').value = share;
}

const CONTROLS = ['file', 'record', 'speakers'];

function busy(yes) {
  $('work').hidden = !yes;
  enable(!yes, CONTROLS);
}

async function diarize(file, name) {
  if (stopping) return;
  stopping = new AbortController();
  tell($('problem'), '');
  timeline.close();
  forget(...shown);
  shown = [];
  busy(true);
  report('Uploading', 0);
  $('said').textContent = 'Working on the recording';
  try {
    const held = await upload(file, name, limits, stopping.signal, report);
    shown.push(`api/recordings/${held.id}`);
    report('Waiting');
    const speakers = $('speakers').value ? Number($('speakers').value) : null;
    const job = await run('diarize', { recording: held.id, speakers }, stopping.signal, report);
    shown.push(job.path);
    timeline.show(job, showGallery);
    $('said').textContent = `Done: ${count(job.result.speakers.length, 'speaker', 'speakers')}`;
    $('meeting-title').focus({ preventScroll: true });
    $('meeting').scrollIntoView({ block: 'nearest' });
  } catch (error) {
    forget(...shown);
    if (error.name === 'AbortError') $('said').textContent = 'Cancelled';
    else tell($('problem'), error.message);
  } finally {
    stopping = null;
    busy(false);
    $('file').value = '';
  }
}

async function begin() {
  tell($('problem'), '');
  // From now on: while the browser asks, nothing else begins.
  enable(false, CONTROLS);
  try {
    recording = await record((seconds, level, bytes) => {
      $('recorded').textContent = clock(seconds);
      $('level').value = level;
      if (limits && (seconds >= 60 * limits.minutes - 1 || bytes >= limits.megabytes * 1e6 - 1e5)) finish(true);
    });
    $('microphone').hidden = false;
    $('stop').focus();
  } catch (error) {
    enable(true, CONTROLS);
    tell($('problem'), error.message);
  }
}

async function finish(keep) {
  const mine = recording;
  recording = null;
  if (!mine) return;
  $('microphone').hidden = true;
  $('recorded').textContent = '0:00';
  enable(true, CONTROLS);
  if (!keep) {
    await mine.discard();
    $('record').focus();
    return;
  }
  const now = new Date().toTimeString().slice(0, 5).replace(':', '.');
  diarize(await mine.stop(), `Recording at ${now}.wav`);
}

function dropping() {
  const drop = $('drop');
  const over = event => {
    event.preventDefault();
    drop.classList.add('over');
  };
  drop.addEventListener('dragenter', over);
  drop.addEventListener('dragover', over);
  drop.addEventListener('dragleave', event => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove('over');
  });
  // Beside the field, the browser would leave the page for the file.
  for (const kind of ['dragover', 'drop']) addEventListener(kind, event => event.preventDefault());
  drop.addEventListener('drop', event => {
    drop.classList.remove('over');
    const [file] = event.dataTransfer.files;
    if (file && !$('file').disabled) diarize(file, file.name);
  });
}

async function introduce() {
  const { version, model, limits: most } = await ask('GET', 'api/about');
  limits = most;
  $('takes').textContent =
    `WAV, FLAC, OGG or MP3, up to ${most.minutes} minutes and ${most.megabytes} MB. The server removes recordings`
    + ` ${most.keep_minutes} minutes after their last use, or when this page is closed.`;
  const calibration = model.calibrated_on ? `calibrated on ${model.calibrated_on}` : 'not calibrated: no probabilities';
  $('about').textContent = `separative ${version} · model ${model.sha256.slice(0, 12)}, `
    + `${(model.parameters / 1e6).toFixed(2)} million parameters, ${model.rate / 1000} kHz, ${calibration}`;
}

$('file').addEventListener('change', () => {
  const [file] = $('file').files;
  if (file) diarize(file, file.name);
});
$('cancel').addEventListener('click', () => stopping?.abort());
$('record').addEventListener('click', begin);
$('stop').addEventListener('click', () => finish(true));
$('discard').addEventListener('click', () => finish(false));
dropping();
compareTwo(() => limits);
introduce().catch(error => tell($('problem'), error.message));
showGallery();
