//! What can be placed in the programme, on its way there.
//!
//! A track is an [`input`]: put in order ([`reorder`]) and in time ([`timing`], which is as late as [`playout`] says), decoded in a
//! pipeline of its own ([`decoder`]) and left in its [`seat`] until it is due. A [`canvas`] comes as whole frames and goes the same way.
//! A picture that is the whole programme may have a [`passage`] straight to the feed, neither decoded nor encoded.

pub(super) mod canvas;
pub(super) mod decoder;
pub(super) mod glide;
pub(super) mod input;
pub(super) mod packet;
pub(super) mod passage;
pub(super) mod playout;
pub(super) mod reorder;
pub(super) mod seat;
pub(super) mod still;
pub(super) mod timing;
pub(super) mod vp9;
