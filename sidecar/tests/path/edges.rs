//! What HTTP/2 allows, and what it forbids, done on purpose by a scripted peer: an app, a caller
//! or another sidecar that writes its frames one by one.

mod peer;
mod wire;

mod callers;
mod cancelled;
mod credit;
mod floods;
mod goaway;
mod gone;
mod halves;
mod heads;
mod hints;
mod lengths;
mod resets;
mod settings;
mod violations;
mod windows;
