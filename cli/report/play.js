"use strict";

// Clips of one prompt play in step: they start together, and start again when the last has ended. Only those in view
// are loaded, since browsers grant a page few players.

class Together {
  constructor(element) {
    this.videos = [...element.querySelectorAll("video")];
    this.frame = Number(element.dataset.frame);
    this.inView = false;
    this.sources = this.videos.map((video) => video.src);
    for (const video of this.videos) {
      video.controls = false;
      video.loop = false;
      video.addEventListener("ended", () => this.videos.every((other) => other.ended) && this.start());
      video.addEventListener("canplaythrough", () => this.isReady() && this.videos[0].paused && this.start());
    }
    this.videos[0].addEventListener("timeupdate", () => this.straighten());
  }

  isReady() {
    return this.videos.every((video) => video.readyState === HTMLMediaElement.HAVE_ENOUGH_DATA);
  }

  /** From the beginning. */
  start() {
    if (!playing || !this.inView) return;
    for (const video of this.videos) video.currentTime = 0;
    this.resume();
  }

  resume() {
    // A browser may forbid it, to save a battery for one; then the posters stay.
    for (const video of this.videos) video.play().catch(() => {});
  }

  /** All in the middle of the frame that the first one shows. */
  pause() {
    const frame = Math.floor(this.videos[0].currentTime / this.frame);
    for (const video of this.videos) {
      video.pause();
      if (!video.ended) video.currentTime = (frame + 0.5) * this.frame;
    }
  }

  /** Puts back what has run away from the first clip by more than half a frame. */
  straighten() {
    const time = this.videos[0].currentTime;
    for (const video of this.videos) {
      if (!video.ended && Math.abs(video.currentTime - time) > this.frame / 2) video.currentTime = time;
    }
  }

  enter() {
    this.inView = true;
    this.videos.forEach((video, i) => {
      video.preload = "auto";
      video.src = this.sources[i];
    });
  }

  leave() {
    this.inView = false;
    for (const video of this.videos) {
      video.removeAttribute("src");
      video.load();
    }
  }
}

let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const groups = new Map([...document.querySelectorAll("[data-together]")].map((e) => [e, new Together(e)]));
const button = document.querySelector("[data-play]");

function show() {
  button.textContent = playing ? "Pause" : "Play";
}

button.addEventListener("click", () => {
  playing = !playing;
  show();
  for (const group of groups.values()) {
    if (!group.inView) continue;
    if (!playing) group.pause();
    else if (group.videos.some((video) => video.ended)) group.start();
    else group.resume();
  }
});

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const group = groups.get(target);
    if (isIntersecting && !group.inView) group.enter();
    else if (!isIntersecting && group.inView) group.leave();
  }
}, { rootMargin: "200px" });
for (const element of groups.keys()) observer.observe(element);
show();
button.hidden = false;
