// A gateway inside the page: stands in for the WebSocket and answers with real peer connections, so that the studio can be looked
// at, and its negotiation tried in a real browser, without a server. Used by look.mjs only; who is in the room is told by fixtures.ts.
(() => {
  const { joined, people, paths } = window.fakeRoom;
  window.fakeSockets = [];

  function picture(hue) {
    const canvas = document.createElement("canvas");
    canvas.width = 640;
    canvas.height = 360;
    const g = canvas.getContext("2d");
    let t = 0;
    setInterval(() => {
      t += 1;
      const sky = g.createLinearGradient(0, 0, 640, 360);
      sky.addColorStop(0, `hsl(${hue} 45% 34%)`);
      sky.addColorStop(1, `hsl(${hue + 40} 50% 14%)`);
      g.fillStyle = sky;
      g.fillRect(0, 0, 640, 360);
      g.fillStyle = `hsl(${hue} 35% 62%)`;
      g.beginPath();
      g.arc(320 + Math.sin(t / 9) * 14, 150, 62, 0, 7);
      g.ellipse(320, 370, 150, 130, 0, 0, 7);
      g.fill();
    }, 50);
    return canvas.captureStream(20).getVideoTracks()[0];
  }

  function sound(note) {
    const audio = new AudioContext();
    const osc = audio.createOscillator();
    osc.frequency.value = note;
    const gain = audio.createGain();
    gain.gain.value = 0.25;
    const out = audio.createMediaStreamDestination();
    osc.connect(gain).connect(out);
    osc.start();
    return out.stream.getAudioTracks()[0];
  }

  const gathered = (pc) =>
    new Promise((done) => {
      if (pc.iceGatheringState === "complete") done();
      pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && done());
      setTimeout(done, 1500);
    });

  class FakeSocket {
    constructor(url) {
      window.fakeSockets.push(this);
      this.canvas = url.endsWith("/rtmp-relay");
      this.bufferedAmount = 0;
      setTimeout(() => (window.fakeDown ? this.onclose?.({}) : this.onopen?.({})), 20);
      this.offerId = 0;
      this.produced = 0;
      this.pendingOffer = null;
    }
    say(frame) {
      setTimeout(() => this.onmessage?.({ data: JSON.stringify(frame) }), 5);
    }
    drop() {
      this.sendPc?.close();
      this.recvPc?.close();
      this.onclose?.({});
    }
    close() {}
    async send(message) {
      if (this.canvas) return this.paint(message);
      const { id, method, data } = JSON.parse(message);
      try {
        this.say({ id, ok: true, data: (await this[method]?.(data)) ?? {} });
      } catch (error) {
        this.say({ id, ok: false, error: { code: error.code ?? "failed", message: String(error) } });
      }
    }
    /** A canvas is always wanted, and every frame makes room for the next. */
    paint(message) {
      if (typeof message !== "string") return this.say({ type: "credit", frames: 1 });
      this.say({ type: "opened", formats: ["h264", "vp8", "jpeg"] });
      this.say({ type: "credit", frames: 4 });
      this.say({ type: "pace", max_fps: 30, max_kbps: 2500, scale: 1 });
    }
    join() {
      if (window.fakeRefusal) throw Object.assign(new Error(window.fakeRefusal), { code: window.fakeRefusal });
      this.recvPc = new RTCPeerConnection();
      setTimeout(() => this.say({ method: "delays", data: { paths } }), 300);
      return joined;
    }
    async connect({ transport, sdp }) {
      if (transport === "recv") {
        await this.recvPc.setRemoteDescription({ type: "answer", sdp });
        return {};
      }
      this.sendPc ??= new RTCPeerConnection();
      await this.sendPc.setRemoteDescription({ type: "offer", sdp });
      await this.sendPc.setLocalDescription();
      await gathered(this.sendPc);
      return { sdp: this.sendPc.localDescription.sdp };
    }
    async candidate({ transport, candidate }) {
      const pc = transport === "recv" ? this.recvPc : this.sendPc;
      await pc?.addIceCandidate({ candidate, sdpMid: "0" }).catch(() => undefined);
    }
    produce() {
      return { producer_id: `prd_me${this.produced++}` };
    }
    consume({ producer_id }) {
      const { participant, kind } = joined.producers.find(({ id }) => id === producer_id);
      const person = people.find(({ id }) => id === participant);
      const transceiver = this.recvPc.addTransceiver(kind === "audio" ? sound(person.note) : picture(person.hue), {
        direction: "sendonly",
        streams: [new MediaStream()],
      });
      clearTimeout(this.pendingOffer);
      const mid = String(this.recvPc.getTransceivers().indexOf(transceiver));
      this.pendingOffer = setTimeout(async () => {
        await this.recvPc.setLocalDescription();
        await gathered(this.recvPc);
        this.say({ method: "offer", data: { offer_id: ++this.offerId, sdp: this.recvPc.localDescription.sdp } });
      }, 60);
      return { consumer: { id: `con_${producer_id}`, producer: producer_id, kind, mid } };
    }
  }
  window.WebSocket = FakeSocket;
})();
