// One track of the timeline: name, identity, solo and mute buttons, download, and enrolment of its speaker.

import { request } from './api.js';
import { $, make, percent, signed } from './dom.js';

// The most probable identity in bold, then the next ones.
function describeIdentity({ name, unknown_probability: unknown, candidates }) {
  if (!candidates.length) return [];
  if (unknown === null) {
    const scores = candidates.map(c => `${c.name} ${signed(c.score, 2)}`).join(', ');
    return [make('b', {}, name ?? 'unknown'), ` · cosine: ${scores}`];
  }
  const others = [
    ...candidates.filter(c => c.name !== name).map(c => [c.name, c.probability]),
    ...(name === null ? [] : [['unknown', unknown]]),
  ].filter(([, probability]) => probability >= 0.005).sort((a, b) => b[1] - a[1]).slice(0, 2);
  const best = name === null ? unknown : candidates.find(c => c.name === name).probability;
  const rest = others.map(([other, probability]) => `${other} ${percent(probability)}`).join(', ');
  return [make('b', {}, name ?? 'unknown'), ` ${percent(best)}`, rest && ` · ${rest}`];
}

// Track 0 is the mixture; track n is speaker n.
export function makeTrack({ name, facts, colour, path, number, player, identity, onEnrolled }) {
  const element = $('track-template').content.firstElementChild.cloneNode(true);
  const find = selector => element.querySelector(selector);
  find('.track-name').textContent = name;
  find('.facts').textContent = facts;
  find('.chip').style.background = colour;
  const solo = find('.solo'), mute = find('.mute'), wav = find('.wav');
  solo.addEventListener('click', () => player.solo(number));
  mute.addEventListener('click', () => player.setMuted(number, !player.isMuted(number)));
  for (const [button, label] of [[solo, 'solo'], [mute, 'mute'], [wav, 'as WAV']]) {
    button.setAttribute('aria-label', `${name} ${label}`);
  }
  if (number) {
    find('.identity').append(...describeIdentity(identity));
    wav.href = `${path}/speakers/${number}.wav?save=true`;
    setUpEnrolment(find, name, identity, `${path}/speakers/${number}/enrol`, onEnrolled);
  } else {
    wav.remove();
    find('.enrol').remove();
  }
  return {
    element,
    colour,
    viewport: find('.viewport'),
    waveform: find('.waveform'),
    refresh() {
      solo.setAttribute('aria-pressed', player.isSolo(number));
      mute.setAttribute('aria-pressed', player.isMuted(number));
      element.classList.toggle('muted', player.isMuted(number));
    },
  };
}

function setUpEnrolment(find, speaker, identity, path, onEnrolled) {
  const field = find('.enrol input'), button = find('.enrol-button'), message = find('.message');
  field.setAttribute('aria-label', `Name of ${speaker.toLowerCase()}`);
  button.setAttribute('aria-label', `Enrol ${speaker.toLowerCase()}`);
  field.value = identity.name ?? '';
  const enrol = async force => {
    if (button.disabled) return;
    const name = field.value.trim();
    if (!name) {
      message.textContent = 'Type a name first.';
      field.focus();
      return;
    }
    button.disabled = true;
    try {
      const quality = await request('POST', path, { name, force });
      message.textContent = [`Enrolled as ${name}.`, ...quality.warnings.map(warning => `${warning}.`)].join(' ');
      onEnrolled();
    } catch (error) {
      message.textContent = error.reasons ? `Not enrolled: ${error.reasons.join('; ')}. ` : error.message;
      if (error.reasons) {
        const anyway = make('button', { type: 'button', className: 'small' }, 'Enrol anyway');
        anyway.addEventListener('click', () => enrol(true));
        message.append(anyway);
      }
    } finally {
      button.disabled = false;
    }
  };
  button.addEventListener('click', () => enrol(false));
  field.addEventListener('keydown', event => { if (event.key === 'Enter') enrol(false); });
}
