//! Dockerfiles: parsed, planned, built
