// A camera and a microphone on one clock, and when the marks in their picture and sound begin. All of it runs in a page.

/**
 * Puts them in the place of the machine's: a note at these levels on the left and the right, and a wandering box on red; and for the
 * first `mark` seconds of each second all white with a beep on both sides, unless `beep` is null.
 *
 * Chromium starts the files of its fake devices independently of each other and plays them at slightly different speeds, so their marks
 * drift apart by milliseconds a second. Here both follow the audio clock.
 */
export function devices({ note, levels, beep, mark, width, height, fps }) {
  let made;
  window.flashes = [];
  function make() {
    const audio = new AudioContext({ sampleRate: 48000 });
    const output = audio.createMediaStreamDestination();
    const merger = audio.createChannelMerger(2);
    merger.connect(output);
    const tone = (frequency, sides) => {
      const wave = new OscillatorNode(audio, { frequency });
      const gains = sides.map((level, side) => {
        const gain = new GainNode(audio, { gain: level });
        wave.connect(gain).connect(merger, 0, side);
        return gain.gain;
      });
      wave.start();
      return gains;
    };
    tone(note, levels);
    const beeps = beep === null ? [] : tone(beep.note, [0, 0]);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const paint = canvas.getContext("2d");
    const video = canvas.captureStream(0).getVideoTracks()[0];
    let [painted, marked, wasWhite] = [-1, 0, false];
    setInterval(() => {
      while (marked < audio.currentTime + 2) {
        for (const gain of beeps) {
          gain.setValueAtTime(beep.level, marked);
          gain.setValueAtTime(0, marked + mark);
        }
        marked += 1;
      }
      const frame = Math.floor(audio.currentTime * fps);
      if (frame === painted) return;
      painted = frame;
      const white = beep !== null && frame % fps < fps * mark;
      if (white && !wasWhite) window.flashes.push(performance.now());
      wasWhite = white;
      paint.fillStyle = white ? "#fff" : "#8c1d18";
      paint.fillRect(0, 0, width, height);
      paint.fillStyle = white ? "#fff" : "#f2c14e";
      paint.fillRect((frame * 4) % ((width * 7) / 8), height / 3, width / 8, height / 5);
      video.requestFrame();
    }, 5);
    return { audio: output.stream.getAudioTracks()[0], video };
  }
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    made ??= make();
    window.captured = made;
    return new MediaStream(["audio", "video"].filter((kind) => constraints[kind]).map((kind) => made[kind].clone()));
  };
}

/**
 * When flashes begin and beeps do, milliseconds of the page's clock: in what the devices give, or in the video element that is `shown`.
 * White is looked for at this place of the picture, in parts of its width and height; notes have to stay below 0.3 without a beep, and
 * to pass 0.4 with one.
 */
export async function marks({ shown, at: [left, top], seconds }) {
  const stream = shown && document.querySelector(shown).srcObject;
  const { audio, video } = stream ? { audio: stream.getAudioTracks()[0], video: stream.getVideoTracks()[0] } : window.captured;
  const [flashes, beeps] = [[], []];
  const until = performance.now() + seconds * 1000;
  /** `began` tells how many milliseconds before its end a mark began in a piece; null for one without a mark. */
  async function edges(track, times, began) {
    const copy = track.clone();
    const reader = new MediaStreamTrackProcessor({ track: copy }).readable.getReader();
    let was = 0;
    while (performance.now() < until) {
      const { value, done } = await reader.read();
      if (done) break;
      const came = performance.now();
      const on = began(value);
      value.close();
      if (on !== null && was === null) times.push(came - on);
      was = on;
    }
    await reader.cancel();
    copy.stop();
  }
  const pen = new OffscreenCanvas(8, 8).getContext("2d", { willReadFrequently: true });
  const white = (frame) => {
    pen.drawImage(frame, left * frame.displayWidth, top * frame.displayHeight, 16, 16, 0, 0, 8, 8);
    return pen.getImageData(0, 0, 8, 8).data.reduce((sum, each) => sum + each, 0) / 256 > 215 ? 0 : null;
  };
  let held = 0;
  const loud = (data) => {
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    held = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), held * 0.6);
    if (held <= 0.35) return null;
    const first = samples.findIndex((sample) => Math.abs(sample) > 0.35);
    return first < 0 ? 0 : ((samples.length - first) / data.sampleRate) * 1000;
  };
  await Promise.all([edges(video, flashes, white), edges(audio, beeps, loud)]);
  return { flashes, beeps };
}

/** This time moved by whole seconds until it is within half a second of `centre`: marks come once a second. */
export function near(value, centre) {
  return value - Math.round((value - centre) / 1000) * 1000;
}
