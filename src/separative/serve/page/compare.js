// Is the same speaker heard in two recordings?

import { forget, run, upload } from './api.js';
import { $, enable, make, percent, signed, tell } from './dom.js';

export function compareTwo(limits) {
  const sides = ['left', 'right'];
  for (const side of sides) {
    $(side).addEventListener('change', () => {
      const [file] = $(side).files;
      if (file) $(`${side}-name`).textContent = file.name;
      $('compare').disabled = !sides.every(one => $(one).files.length);
      $('verdict').replaceChildren();
    });
  }
  $('compare').addEventListener('click', async () => {
    const verdict = $('verdict'), say = (words, share) => {
      verdict.textContent = share === undefined ? `${words} …` : `${words} ${percent(share)} …`;
    };
    tell($('compare-problem'), '');
    const controls = [...sides, 'compare'];
    enable(false, controls);
    const held = [];
    try {
      for (const side of sides) {
        const [file] = $(side).files;
        held.push(await upload(file, file.name, limits(), undefined, say));
      }
      say('Comparing');
      const job = await run('verify', { left: [held[0].id], right: [held[1].id] }, undefined, say);
      verdict.replaceChildren(...words(job.result));
      forget(job.path);
    } catch (error) {
      verdict.replaceChildren();
      tell($('compare-problem'), error.message);
    } finally {
      forget(...held.map(one => `api/recordings/${one.id}`));
      enable(true, controls);
    }
  });
}

function words({ score, same, probability, llr, calibrated_on: on }) {
  const cosine = `cosine ${signed(score, 3)}`;
  if (probability === null) {
    return [make('b', {}, cosine), ': from −1 to 1, higher is more alike. The model has no calibration to say more.'];
  }
  return [
    make('b', {}, same ? 'The same speaker' : 'Different speakers'),
    `: probability of the same ${percent(probability)} `,
    make('span', { className: 'hint' }, `(${cosine}, log-likelihood ratio ${signed(llr, 2)} nats; calibrated on ${on})`),
  ];
}
