import { defineConfig } from "vite";

// The gateway serves dist/ under a strict content security policy: everything is a file of its own, nothing is inlined, and no
// file name or content depends on the machine that built it.
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    sourcemap: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:8080",
      "/media-relay": { target: "ws://127.0.0.1:8080", ws: true },
    },
  },
});
