// The page: choose, drop or record a recording, diarize it on the server, and show the result.

import { remove, request, runJob, upload } from './api.js';
import { setUpComparison } from './compare.js';
import { $, clock, count, percent, setEnabled, showText } from './dom.js';
import { showGallery } from './gallery.js';
import { record } from './recorder.js';
import { Timeline } from './timeline.js';

const CONTROLS = ['file', 'record', 'speaker-count'];

const timeline = new Timeline();
// The server's limits, the AbortController of the running job, the paths of the recording and job that are shown,
// and the running microphone recording.
let limits = null, running = null, shown = [], recording = null;

function report(stage, share) {
  $('stage').textContent = share === undefined ? stage : `${stage} ${percent(share)}`;
  if (share === undefined) $('progress').removeAttribute('value');
  else $('progress').value = share;
}

function setBusy(busy) {
  $('job').hidden = !busy;
  setEnabled(!busy, CONTROLS);
}

async function diarize(file, name) {
  if (running) return;
  running = new AbortController();
  showText($('error'), '');
  timeline.close();
  remove(...shown);
  shown = [];
  setBusy(true);
  report('Uploading', 0);
  $('status').textContent = 'Processing the recording';
  try {
    const uploaded = await upload(file, name, limits, running.signal, report);
    shown.push(`api/recordings/${uploaded.id}`);
    report('Waiting');
    const speakers = $('speaker-count').value ? Number($('speaker-count').value) : null;
    const job = await runJob('diarize', { recording: uploaded.id, speakers }, running.signal, report);
    shown.push(job.path);
    timeline.show(job, showGallery);
    $('status').textContent = `Done: ${count(job.result.speakers.length, 'speaker', 'speakers')}`;
    $('diarization-title').focus({ preventScroll: true });
    $('diarization').scrollIntoView({ block: 'nearest' });
  } catch (error) {
    remove(...shown);
    if (error.name === 'AbortError') $('status').textContent = 'Cancelled';
    else showText($('error'), error.message);
  } finally {
    running = null;
    setBusy(false);
    $('file').value = '';
  }
}

async function startRecording() {
  showText($('error'), '');
  // Disabled at once, so that nothing else starts while the browser asks for permission.
  setEnabled(false, CONTROLS);
  try {
    recording = await record((seconds, level, bytes) => {
      $('recorded').textContent = clock(seconds);
      $('level').value = level;
      if (limits && (seconds >= 60 * limits.minutes - 1 || bytes >= limits.megabytes * 1e6 - 1e5)) endRecording(true);
    });
    $('microphone').hidden = false;
    $('stop').focus();
  } catch (error) {
    setEnabled(true, CONTROLS);
    showText($('error'), error.message);
  }
}

async function endRecording(keep) {
  const ended = recording;
  recording = null;
  if (!ended) return;
  $('microphone').hidden = true;
  $('recorded').textContent = '0:00';
  setEnabled(true, CONTROLS);
  if (!keep) {
    await ended.discard();
    $('record').focus();
    return;
  }
  const time = new Date().toTimeString().slice(0, 5).replace(':', '.');
  diarize(await ended.stop(), `Recording at ${time}.wav`);
}

function setUpDrop() {
  const drop = $('drop');
  const highlight = event => {
    event.preventDefault();
    drop.classList.add('over');
  };
  drop.addEventListener('dragenter', highlight);
  drop.addEventListener('dragover', highlight);
  drop.addEventListener('dragleave', event => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove('over');
  });
  // A file that is dropped elsewhere on the page would replace the page.
  for (const type of ['dragover', 'drop']) addEventListener(type, event => event.preventDefault());
  drop.addEventListener('drop', event => {
    drop.classList.remove('over');
    const [file] = event.dataTransfer.files;
    if (file && !$('file').disabled) diarize(file, file.name);
  });
}

async function showAbout() {
  const about = await request('GET', 'api/about'), { version, model } = about;
  limits = about.limits;
  $('limits').textContent =
    `WAV, FLAC, OGG or MP3, up to ${limits.minutes} minutes and ${limits.megabytes} MB. The server removes a recording`
    + ` ${limits.keep_minutes} minutes after its last use, or when you close this page.`;
  const calibration = model.calibrated_on ? `calibrated on ${model.calibrated_on}` : 'not calibrated (no probabilities)';
  $('about').textContent = `separative ${version} · model ${model.sha256.slice(0, 12)}, `
    + `${(model.parameters / 1e6).toFixed(2)} million parameters, ${model.rate / 1000} kHz, ${calibration}`;
}

$('file').addEventListener('change', () => {
  const [file] = $('file').files;
  if (file) diarize(file, file.name);
});
$('cancel').addEventListener('click', () => running?.abort());
$('record').addEventListener('click', startRecording);
$('stop').addEventListener('click', () => endRecording(true));
$('discard').addEventListener('click', () => endRecording(false));
setUpDrop();
setUpComparison(() => limits);
showAbout().catch(error => showText($('error'), error.message));
showGallery();
