// Compares the speakers of two recordings.

import { finishJob, remove, startJob, upload } from './api.js';
import { $, make, percent, setEnabled, showText, signed } from './dom.js';

export function setUpComparison(limits) {
  const sides = ['left', 'right'];
  for (const side of sides) {
    $(side).addEventListener('change', () => {
      const [file] = $(side).files;
      if (file) $(`${side}-name`).textContent = file.name;
      $('compare').disabled = !sides.every(one => $(one).files.length);
      $('comparison').replaceChildren();
    });
  }
  $('compare').addEventListener('click', async () => {
    const output = $('comparison');
    const report = (stage, share) => {
      output.textContent = share === undefined ? `${stage} …` : `${stage} ${percent(share)} …`;
    };
    showText($('compare-error'), '');
    const controls = [...sides, 'compare'];
    setEnabled(false, controls);
    const recordings = [];
    try {
      for (const side of sides) {
        const [file] = $(side).files;
        recordings.push(await upload(file, file.name, limits(), undefined, report));
      }
      report('Comparing');
      const [left, right] = recordings.map(recording => [recording.id]);
      const job = await startJob('api/verify', { left, right }, undefined, report);
      const { result } = await finishJob(job, undefined, report);
      output.replaceChildren(...describe(result));
      remove(`api/jobs/${job}`);
    } catch (error) {
      output.replaceChildren();
      showText($('compare-error'), error.message);
    } finally {
      remove(...recordings.map(recording => `api/recordings/${recording.id}`));
      setEnabled(true, controls);
    }
  });
}

function describe({ score, same, probability, llr, calibrated_on: calibration }) {
  const cosine = `cosine ${signed(score, 3)}`;
  if (probability === null) {
    return [
      make('b', {}, cosine), ' on a scale from −1 to 1; higher means more similar. The model is not calibrated, so'
      + ' there is no probability.',
    ];
  }
  const details = `(${cosine}, log-likelihood ratio ${signed(llr, 2)} nats; calibrated on ${calibration})`;
  return [
    make('b', {}, same ? 'Same speaker' : 'Different speakers'),
    `: ${percent(probability)} probability of the same speaker `,
    make('span', { className: 'hint' }, details),
  ];
}
