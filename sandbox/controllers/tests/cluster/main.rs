//! The controllers against a real API server over a store in memory. Nobody schedules or runs pods here: a runner in the test says that they
//! run (or have ended), and deletes those that are going. Tests wait for what the API server shows, never for time.

mod admission;
mod batch;
mod harness;
mod nodes;
mod owners;
mod policy;
mod services;
mod storage;
mod workloads;
