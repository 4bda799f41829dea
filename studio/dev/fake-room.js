// A gateway inside the page: stands in for the WebSocket and answers with real peer connections, so that the studio can be looked
// at, and its negotiation tried in a real browser, without a server. Used by look.mjs only.
(() => {
  const people = window.fakePeople ?? [
    { name: "Ada", hue: 18, note: 330, role: "musician" },
    { name: "Miles", hue: 205, note: 440, role: "musician", muted: true },
    { name: "Nina Simone-Okonkwo", hue: 130, note: 550, role: "musician" },
  ];
  window.fakeLog = [];
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
    constructor() {
      window.fakeSockets.push(this);
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
    async send(text) {
      const { id, method, data } = JSON.parse(text);
      window.fakeLog.push({ method, data });
      try {
        this.say({ id, ok: true, data: (await this[method]?.(data)) ?? {} });
      } catch (error) {
        this.say({ id, ok: false, error: { code: error.code ?? "failed", message: String(error) } });
      }
    }
    join() {
      if (window.fakeRefusal) throw Object.assign(new Error(window.fakeRefusal), { code: window.fakeRefusal });
      const participants = people.map((p, i) => ({ id: `par_${i}`, name: p.name, role: p.role, audio_muted: false, video_muted: false, isolated: false, ...p.decided }));
      const producers = people.flatMap((p, i) => [
        { id: `prd_a${i}`, participant: `par_${i}`, kind: "audio", source: "microphone", paused: !!p.muted },
        ...(p.shares ? [{ id: `prd_v${i}s`, participant: `par_${i}`, kind: "video", source: "screen", paused: false }] : []),
        ...(p.dark ? [] : [{ id: `prd_v${i}`, participant: `par_${i}`, kind: "video", source: "camera", paused: false }]),
      ]);
      this.recvPc = new RTCPeerConnection();
      const everybody = ["par_me", ...participants.map(({ id }) => id)];
      const plays = everybody.filter((id) => participants.find((each) => each.id === id)?.role !== "viewer");
      const grade = (ms) => (ms <= 43 ? "green" : ms <= 68 ? "yellow" : "red");
      const paths = plays.flatMap((from, i) => everybody.filter((to) => to !== from).map((to, j) => {
        const delay_ms = 14 + i * 21 + j * 9;
        return { from, to, delay_ms, buffer_ms: j === 0 ? null : 11, grade: grade(delay_ms) };
      }));
      setTimeout(() => this.say({ method: "delays", data: { paths } }), 300);
      return {
        you: { id: "par_me", name: "Ella", role: window.fakeRole ?? "host", audio_muted: false, video_muted: false, isolated: false, ...window.fakeDecided },
        room: "friday-jam", locked: false, spotlight: null, ...window.fakeState,
        resume_token: "r", resume_within_ms: 30000, ice_servers: [], heartbeat_ms: 15000, participants, producers,
      };
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
      const person = people[Number.parseInt(producer_id.slice(5), 10)];
      const audio = producer_id[4] === "a";
      const transceiver = this.recvPc.addTransceiver(audio ? sound(person.note) : picture(person.hue), {
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
      return { consumer: { id: `con_${producer_id}`, producer: producer_id, kind: audio ? "audio" : "video", mid } };
    }
  }
  window.WebSocket = FakeSocket;
})();
