// The player of a timeline: one audio element per lane that can be played, all at the same position. A page
// may have no audio at all.
const data = JSON.parse(document.getElementById('data').textContent);
const players = [...document.querySelectorAll('audio')];
const laneButtons = [...document.querySelectorAll('.name button')];
const tracks = document.querySelector('.tracks'), head = document.querySelector('.head');
const scroll = document.querySelector('.scroll'), out = document.querySelector('output');
const play = document.getElementById('play'), ticks = document.querySelector('.ticks');
let position = 0, lane = 0, zoom = 1;
const clock = s => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}`;

function show() {
  head.style.left = `${100 * position / data.seconds}%`;
  out.textContent = `${clock(position)} / ${clock(data.seconds)}`;
}

// Switch to another lane at the same position; keep playing if it was playing.
function choose(number) {
  const playing = !players[lane].paused;
  players[lane].pause();
  lane = number;
  laneButtons.forEach((button, i) => button.setAttribute('aria-pressed', i === lane));
  players[lane].currentTime = position;
  if (playing) players[lane].play();
}

function seek(seconds) {
  position = Math.min(Math.max(0, seconds), data.seconds);
  if (players[lane]) players[lane].currentTime = position;
  show();
}

function toggle() {
  const player = players[lane];
  if (!player) return;
  if (player.paused) { player.currentTime = position; player.play(); } else player.pause();
}

// Zoom so that at least 5 seconds stay visible, draw the time marks again and keep the position in the middle.
function magnify(factor) {
  zoom = Math.min(Math.max(1, zoom * factor), Math.max(1, data.seconds / 5));
  tracks.style.width = `${100 * zoom}%`;
  const wanted = data.seconds / (8 * zoom);
  const step = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600].find(s => s >= wanted) || 7200;
  ticks.replaceChildren();
  for (let s = step; s < data.seconds; s += step) {
    const mark = document.createElement('span');
    mark.textContent = clock(s);
    mark.style.left = `${100 * s / data.seconds}%`;
    ticks.append(mark);
  }
  scroll.scrollLeft = position / data.seconds * tracks.scrollWidth - scroll.clientWidth / 2;
}

players.forEach((player, i) => {
  player.addEventListener('timeupdate', () => {
    if (i === lane && !player.paused) { position = player.currentTime; show(); }
  });
  player.addEventListener('play', () => play.textContent = 'Pause');
  player.addEventListener('pause', () => play.textContent = 'Play');
});
laneButtons.forEach((button, i) => button.addEventListener('click', () => choose(i)));
tracks.addEventListener('click', e => {
  const box = tracks.getBoundingClientRect();
  seek((e.clientX - box.left) / box.width * data.seconds);
});
play?.addEventListener('click', toggle);
laneButtons[0]?.setAttribute('aria-pressed', true);
document.getElementById('zoom-in').addEventListener('click', () => magnify(2));
document.getElementById('zoom-out').addEventListener('click', () => magnify(0.5));
document.addEventListener('keydown', e => {
  if (e.target.tagName === 'BUTTON' && e.key === ' ') return;
  const jump = { ArrowLeft: -5, ArrowRight: 5 }[e.key];
  if (e.key === ' ') { e.preventDefault(); toggle(); } else if (jump) { e.preventDefault(); seek(position + jump); }
});
magnify(1); show();
