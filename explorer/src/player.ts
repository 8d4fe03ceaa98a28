/** Play over time: smoothly, or in a few steps where the reader's system asks for little motion. */

const DURATION = 8000; // milliseconds from the first time to the last
const STEPS = 12; // of a reader who wants little motion
const PAUSE = 900; // milliseconds between them

const SHAPES = { play: "M4 2l10 6-10 6z", pause: "M3 2h4v12H3zM9 2h4v12H9z" };

export class Player {
  private frame = 0;
  private timer = 0;

  constructor(
    private readonly button: HTMLButtonElement,
    private readonly position: () => number,
    private readonly stand: (position: number) => void,
    private readonly onEnd: () => void,
  ) {
    button.addEventListener("click", () => (this.playing ? this.stop() : this.start()));
  }

  get playing(): boolean {
    return this.frame !== 0 || this.timer !== 0;
  }

  stop(): void {
    if (!this.playing) return;
    cancelAnimationFrame(this.frame);
    clearInterval(this.timer);
    this.frame = this.timer = 0;
    this.show();
    this.onEnd();
  }

  private start(): void {
    if (this.position() > 0.995) this.stand(0);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.step();
    else this.run();
    this.show();
  }

  /** A jump to the next of a few times, now and then. */
  private step(): void {
    const next = () => {
      const at = Math.min((Math.floor(this.position() * STEPS + 1e-6) + 1) / STEPS, 1);
      this.stand(at);
      if (at === 1) this.stop();
    };
    this.timer = window.setInterval(next, PAUSE);
    next();
  }

  private run(): void {
    let before = performance.now();
    const next = (now: number) => {
      const at = Math.min(this.position() + Math.max(now - before, 0) / DURATION, 1);
      before = now;
      this.stand(at);
      this.frame = requestAnimationFrame(next);
      if (at === 1) this.stop();
    };
    this.frame = requestAnimationFrame(next);
  }

  private show(): void {
    this.button.querySelector("path")!.setAttribute("d", this.playing ? SHAPES.pause : SHAPES.play);
    this.button.querySelector("span")!.textContent = this.playing ? "Pause" : "Play";
  }
}
