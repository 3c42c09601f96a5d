//! The node agent: serves the OPI EVPN Gateway API and makes the machine match it.
//!
//! ```text
//! api ─▶ store ─▶ watch<Intent> ─▶ reconcile(linux) ─▶ kernel
//!  ▲                            └▶ reconcile(frr)   ─▶ zebra, bgpd
//!  └───────── board ◀── reports ──┘
//! ```
//!
//! **Does:** [`access`] lets in who may, [`api`] translates calls, [`store`] makes intent durable, [`reconcile`] brings each
//! backend to it and the board tells how far they are, [`app`] wires and ends it all.
//!
//! [`gateway`] makes HTTP of the gRPC services, [`http`] says what the HTTP listener serves.
//!
//! **Never:** plans (that is `xpu-plan`) or speaks netlink or vty itself (`xpu-linux`,
//! `xpu-backends`).
//!
//! **Start reading at** [`app`], then [`reconcile`].

pub mod access;
pub mod api;
pub mod app;
pub mod config;
pub mod files;
pub mod gateway;
pub mod http;
pub mod lifecycle;
pub mod listen;
pub mod ports;
pub mod purge;
pub mod reconcile;
pub mod store;
pub mod telemetry;
