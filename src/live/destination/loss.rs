//! Why a connection is over, in the words of the destination's decisions.

use std::io;

use crate::domain::destination::Loss;
use crate::live::port::DialError;
use crate::proto::rtmp::publisher::PublishError;
use crate::proto::rtmp::publisher::Refusal;

pub(super) fn closed() -> Loss {
    Loss::Closed { reason: "the server closed the connection".to_owned() }
}

pub(super) fn broken(error: &io::Error) -> Loss {
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) {
        closed()
    } else {
        Loss::Broken { reason: format!("the connection broke: {kind}") }
    }
}

pub(super) fn of_dial(error: &DialError) -> Loss {
    let reason = error.to_string();
    match error {
        DialError::Forbidden { .. } => Loss::Refused { reason },
        DialError::Resolve { .. } | DialError::Connect { .. } | DialError::Tls { .. } | DialError::TimedOut { .. } => {
            Loss::Broken { reason }
        }
    }
}

pub(super) fn of_publish(error: PublishError) -> Loss {
    let reason = error.to_string();
    match error {
        PublishError::PublishRefused(Refusal::BadName) => Loss::NameTaken { reason },
        PublishError::PublishRefused(Refusal::Denied | Refusal::Other) | PublishError::ConnectRefused(_) => {
            Loss::Refused { reason }
        }
        PublishError::Ended => Loss::Closed { reason },
        PublishError::NotRtmp | PublishError::NoAnswer(_) => Loss::Broken { reason },
    }
}
