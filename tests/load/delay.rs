//! The delay that an SFU adds in a room of six musicians who all hear and see each other.
//!
//! It is what packets take from publisher to subscriber, less what they take when the same generator's peers are connected to each
//! other with nobody in between.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;

use crate::demo::say;
use crate::latency;
use crate::latency::media::DESKTOP;
use crate::latency::media::Kind;
use crate::latency::media::Medium;
use crate::latency::room::Room;
use crate::latency::room::Size;
use crate::latency::tally::Figures;
use crate::latency::tally::tally;
use crate::latency::wire::Post;
use crate::sfu::Sfu;

const MUSICIANS: usize = 6;
const SIZE: Size = Size { participants: MUSICIANS, cameras: MUSICIANS, voices: MUSICIANS };

/// Prints one row for the direct way and one for each SFU.
pub(crate) async fn run(program: &Path) -> Result<()> {
    say(
        "Room of six, each with Opus in 10 ms frames at 160 kbit/s and a camera of 30 fps and 600 kbit/s, delays in ms:\n",
    );
    say("| | audio p50 | added | p99 | added | lost | video p50 | added | p99 | added | lost |");
    say("|---|---|---|---|---|---|---|---|---|---|---|");
    let post = Post::open()?;
    let room = Room::connect_directly(&post, SIZE).await?;
    let direct = figures(&room, |publisher, subscriber| (publisher + 1) % MUSICIANS == subscriber).await?;
    drop(room);
    say(&row("nobody in between", &direct, None));
    for name in Sfu::NAMES {
        let folder = tempfile::tempdir()?;
        let Some(mut sfu) = Sfu::start(name, program, folder.path()).await? else { continue };
        let room = Room::fill(&sfu, &post, SIZE).await?;
        let through = figures(&room, |publisher, subscriber| publisher != subscriber).await?;
        say(&row(name, &through, Some(&direct)));
        room.clear(&sfu).await?;
        sfu.stop().await?;
    }
    Ok(())
}

/// Of audio and of video, over the paths that count.
async fn figures(room: &Room, counts: impl Fn(usize, usize) -> bool) -> Result<[Figures; 2]> {
    room.play(|participant| Medium::Video.orders(&DESKTOP, participant));
    room.wait_until_heard(&counts).await?;
    let (notes, window) = latency::measure(room).await;
    let of = |kind| tally(&notes, kind, window, &counts).context("nothing was heard");
    Ok([of(Kind::Audio)?, of(Kind::Video)?])
}

fn row(name: &str, figures: &[Figures; 2], floor: Option<&[Figures; 2]>) -> String {
    let added = |through: f64, direct: Option<f64>| direct.map_or("-".to_owned(), |ms| format!("{:.2}", through - ms));
    let cells = figures.iter().enumerate().map(|(kind, through)| {
        let direct = floor.map(|floor| floor[kind]);
        format!(
            " {:.2} | {} | {:.2} | {} | {:.2} % |",
            through.p50,
            added(through.p50, direct.map(|direct| direct.p50)),
            through.p99,
            added(through.p99, direct.map(|direct| direct.p99)),
            through.loss
        )
    });
    format!("| {name} |{}", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_difference_to_the_direct_way() {
        let figures = |p50, p99| Figures { p50, p95: 0.0, p99, loss: 0.0 };
        let direct = [figures(0.1, 0.5), figures(0.2, 0.75)];
        let through = [figures(0.35, 2.0), figures(0.5, 3.0)];
        assert_eq!(
            row("it", &through, Some(&direct)),
            "| it | 0.35 | 0.25 | 2.00 | 1.50 | 0.00 % | 0.50 | 0.30 | 3.00 | 2.25 | 0.00 % |"
        );
        assert!(row("floor", &direct, None).starts_with("| floor | 0.10 | - | 0.50 | - |"));
    }
}
