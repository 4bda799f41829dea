//! The programme's picture.
//!
//! The [`compositor`] puts each source's picture, retouched as the scene says ([`look`]), in its place ([`tiling`]); the [`dresser`] has
//! names and title drawn ([`lettering`]) and the [`painter`] blends them and the logo ([`upload`]) over it.

pub(super) mod compositor;
pub(super) mod dresser;
pub(super) mod lettering;
pub(super) mod look;
pub(super) mod painter;
pub(super) mod planes;
pub(super) mod tiling;
pub(super) mod upload;
