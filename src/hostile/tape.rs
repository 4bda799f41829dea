//! A tape: bytes read as decisions, so that what a fuzzer mutates and what a property test draws steer the same generators.

/// Reads a tape from its front; behind its end everything is zero.
pub(super) struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.slice(1).first().copied().unwrap_or_default()
    }

    pub(super) fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// A number under `limit`, which is at least 1.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let number = if limit > 256 { usize::from(self.u16()) } else { usize::from(self.byte()) };
        number % limit
    }

    pub(super) fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len())]
    }

    /// The next `count` bytes, fewer at the end.
    pub(super) fn slice(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// Up to `most` bytes; the tape says how many.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = self.below(most + 1);
        self.slice(count)
    }

    pub(super) fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(self.bytes(most)).into_owned()
    }

    /// Mostly what is right, now and then something else of any kind.
    pub(super) fn mostly(&mut self, right: &str) -> String {
        match self.byte() {
            0..=239 => right.to_owned(),
            240..=247 => String::new(),
            248..=251 => right.repeat(1 + self.below(64)),
            252..=255 => self.text(32),
        }
    }
}
