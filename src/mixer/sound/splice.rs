//! Joins what is heard of a source without a click: sound that is cut off fades away, and sound that is met in its middle fades in.

use crate::mixer::source::seat::Sample;

/// Samples of a fade: 10 ms.
const FADE: usize = 480;

/// See the file.
#[derive(Debug, Default)]
pub(in crate::mixer) struct Splice {
    /// What was heard last, up to a fade of it, the newest last.
    heard: Vec<Sample>,
    /// What is left of a sound that was cut off.
    tail: std::vec::IntoIter<Sample>,
    /// So many samples until what is heard has its full level.
    rising: usize,
    is_sounding: bool,
}

impl Splice {
    /// Adds the sound that is heard next to `mix`, as far as either reaches.
    pub(in crate::mixer) fn play(&mut self, samples: &[Sample], mix: &mut [Sample]) {
        if samples.is_empty() || mix.is_empty() {
            return;
        }
        if !self.is_sounding {
            self.rising = FADE;
            self.is_sounding = true;
        }
        let count = samples.len().min(mix.len());
        let faded = self.rising.max(self.tail.len()).min(count);
        for (sum, [left, right]) in mix.iter_mut().zip(&samples[..faded]) {
            let level = 1.0 - self.rising as f32 / FADE as f32;
            self.rising = self.rising.saturating_sub(1);
            let [left_tail, right_tail] = self.tail.next().unwrap_or_default();
            let heard = [left * level + left_tail, right * level + right_tail];
            add(sum, heard);
            self.heard.push(heard);
        }
        mix[faded..].iter_mut().zip(&samples[faded..count]).for_each(|(sum, sample)| add(sum, *sample));
        self.heard.extend(&samples[faded.max(count.saturating_sub(FADE))..count]);
        self.heard.drain(..self.heard.len().saturating_sub(FADE));
    }

    /// What comes next does not go on where it is, but begins softly.
    pub(in crate::mixer) fn cut(&mut self) {
        self.fade_out();
        self.is_sounding = true;
    }

    /// There is nothing to be heard: adds what is left of what was there to `mix`.
    pub(in crate::mixer) fn rest(&mut self, mix: &mut [Sample]) {
        self.fade_out();
        for (sum, sample) in mix.iter_mut().zip(self.tail.by_ref()) {
            add(sum, sample);
            self.heard.push(sample);
        }
        self.heard.drain(..self.heard.len().saturating_sub(FADE));
        if self.is_silent() {
            // What comes after a silence ends in a tail of its own, however short it is.
            self.heard.clear();
        }
    }

    /// Whether nothing is left to be heard.
    pub(in crate::mixer) fn is_silent(&self) -> bool {
        !self.is_sounding && self.tail.len() == 0
    }

    /// The tail of a sound is its last 10 ms backwards, which goes on from where it was and sounds like it.
    fn fade_out(&mut self) {
        if !std::mem::take(&mut self.is_sounding) {
            return;
        }
        self.rising = 0;
        let length = self.heard.len() as f32;
        let level = |n: usize| 1.0 - (n + 1) as f32 / length;
        let tail = self.heard.iter().rev().enumerate();
        self.tail = tail.map(|(n, [left, right])| [left * level(n), right * level(n)]).collect::<Vec<_>>().into_iter();
    }
}

fn add(sum: &mut Sample, [left, right]: Sample) {
    sum[0] += left;
    sum[1] += right;
}
