//! Nothing but dependencies: Cargo would compile a library anew for each program that wants other features of it.
