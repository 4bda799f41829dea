//! Connections to RTMP servers: resolving, TCP, TLS, and the address policy at the moment of dialling.
