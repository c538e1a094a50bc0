// The dialog about one speaker: name, voiceprint, merging and download.

import { request } from './api.js';
import { $, make, showText } from './dom.js';
import { describeIdentity, title } from './identity.js';

// Opens the dialog. The result offers correct(body, done), enrolled(), isEnrolled(name), item and path.
export function openSpeaker(result, speaker) {
  const dialog = $('speaker'), field = $('speaker-name'), { speakers } = result.item.result, heading = title(speaker);
  const current = () => result.item.result.speakers.find(other => other.number === speaker.number);
  $('speaker-title').textContent = heading;
  showText($('speaker-identity'), describeIdentity(speaker, speakers));
  field.value = speaker.named ? speaker.name : speaker.identity.name ?? '';
  showText($('speaker-error'), '');
  showText($('speaker-message'), '');
  const labelEnrol = () => {
    const name = field.value.trim();
    $('speaker-enrol').textContent = result.isEnrolled(name) ? `Add this recording to ${name}` : 'Name and enrol';
  };
  labelEnrol();
  field.oninput = labelEnrol;

  const rename = async () => {
    const name = field.value.trim() || null, now = current();
    if (!now || (now.named === 'given' && now.name === name)) return true;
    const error = await result.correct({ action: 'rename', speaker: speaker.number, name }, `Renamed to ${name ?? heading}`);
    showText($('speaker-error'), error);
    if (error) field.focus();
    else $('speaker-title').textContent = title(current());
    return !error;
  };
  const enrol = async force => {
    const name = field.value.trim();
    if (!name) {
      showText($('speaker-error'), 'Type a name first.');
      field.focus();
      return;
    }
    if (!await rename()) return;
    $('speaker-enrol').disabled = true;
    try {
      const known = result.isEnrolled(name);
      const quality = await request('POST', `${result.path}/speakers/${speaker.number}/enrol`, { name, force });
      const words = known ? `The recording was added to ${name}.` : `${name} was enrolled.`;
      showText($('speaker-message'), [words, ...quality.warnings.map(warning => `${warning}.`)].join(' '));
      showText($('speaker-error'), '');
      await result.enrolled();
      labelEnrol();
    } catch (error) {
      showText($('speaker-error'), error.reasons ? `Not enrolled: ${error.reasons.join('; ')}. ` : error.message);
      if (error.reasons) {
        const anyway = make('button', { type: 'button', className: 'small' }, 'Enrol anyway');
        anyway.addEventListener('click', () => enrol(true));
        $('speaker-error').append(anyway);
      }
    } finally {
      $('speaker-enrol').disabled = false;
    }
  };
  $('speaker-form').onsubmit = async event => {
    event.preventDefault();
    if (await rename()) dialog.close();
  };
  $('speaker-enrol').onclick = () => enrol(false);

  const others = speakers.filter(other => other.number !== speaker.number);
  $('merge-row').hidden = !others.length;
  $('merge-with').replaceChildren(...others.map(other => make('option', { value: other.number }, title(other))));
  $('merge').onclick = async () => {
    const to = Number($('merge-with').value), name = $('merge-with').selectedOptions[0].text;
    if (!await result.correct({ action: 'merge', speaker: speaker.number, to }, `Merged ${heading} with ${name}`)) dialog.close();
  };
  const wav = $('speaker-wav');
  wav.href = `${result.path}/speakers/${speaker.number}.wav?save=true`;
  $('speaker-close').onclick = () => dialog.close();
  // The lanes were drawn again, so the button that opened the dialog may be gone.
  dialog.onclose = () => {
    const now = current();
    const button = now && document.querySelector(`[aria-label=${CSS.escape(`Edit ${title(now)}`)}]`);
    (button ?? $('diarization-title')).focus({ preventScroll: true });
  };
  dialog.showModal();
  field.select();
}
