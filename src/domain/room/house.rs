//! The rules of the house: who is let in, and what a host may decide about the others.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;

use crate::domain::room::Room;
use crate::domain::room::words::Newcomer;
use crate::domain::room::words::Notice;
use crate::domain::room::words::Order;
use crate::domain::room::words::ParticipantInfo;
use crate::domain::room::words::RoomError;
use crate::domain::room::words::RoomState;
use crate::model::id::ParticipantId;
use crate::model::id::UserId;
use crate::model::media::MediaKind;
use crate::model::role::RoomRole;

/// What has been decided. It is forgotten when the room closes.
#[derive(Debug, Default)]
pub(super) struct House {
    pub(super) state: RoomState,
    /// Whose token brought each participant.
    pub(super) users: HashMap<ParticipantId, UserId>,
    banned: HashSet<UserId>,
    expelled: VecDeque<(ParticipantId, &'static str)>,
}

impl House {
    /// Whether somebody may come in.
    pub(super) fn admits(&self, newcomer: &Newcomer) -> Result<(), RoomError> {
        if self.banned.contains(&newcomer.user) {
            Err(RoomError::Banned)
        } else if self.state.locked && newcomer.role < RoomRole::Host {
            Err(RoomError::RoomLocked)
        } else {
            Ok(())
        }
    }
}

impl Room {
    /// Carries out what a participant decides, or the gateway itself (`None`), which may everything.
    ///
    /// Hosts decide about viewers and musicians, admins about everybody. The last host cannot be lost by this: giving the role away
    /// makes another one.
    ///
    /// # Errors
    /// [`RoomError::NotJoined`], [`RoomError::RoleTooLow`], [`RoomError::UnknownParticipant`] or [`RoomError::NotAMusician`].
    pub fn order(&mut self, by: Option<ParticipantId>, order: Order) -> Result<(), RoomError> {
        let rank = match by {
            Some(by) => self.participant(by).ok_or(RoomError::NotJoined)?.role,
            None => RoomRole::Admin,
        };
        if rank < RoomRole::Host {
            return Err(RoomError::RoleTooLow);
        }
        match order {
            Order::Kick(participant) => {
                self.subordinate(rank, participant)?;
                self.house.expelled.push_back((participant, "the host removed you"));
            }
            Order::Ban(participant) => {
                self.subordinate(rank, participant)?;
                self.ban(participant);
            }
            Order::Mute { participant, kind, muted } => {
                let info = self.subordinate(rank, participant)?;
                match kind {
                    MediaKind::Audio => info.audio_muted = muted,
                    MediaKind::Video => info.video_muted = muted,
                }
                self.decided(participant);
            }
            Order::Isolate { participant, isolated } => {
                self.subordinate(rank, participant)?.isolated = isolated;
                self.decided(participant);
            }
            Order::Spotlight(participant) => {
                if participant.is_some_and(|participant| !self.has(participant)) {
                    return Err(RoomError::UnknownParticipant);
                }
                self.update(RoomState { spotlight: participant, ..self.house.state });
            }
            Order::Lock(locked) => self.update(RoomState { locked, ..self.house.state }),
            Order::TransferHost(participant) => self.transfer_host(by, rank, participant)?,
        }
        Ok(())
    }

    /// Who is to be put out, and what it is told.
    pub fn poll_expelled(&mut self) -> Option<(ParticipantId, &'static str)> {
        self.house.expelled.pop_front()
    }

    pub(super) fn participant(&self, id: ParticipantId) -> Option<&ParticipantInfo> {
        self.participants.iter().find(|p| p.id == id)
    }

    pub(super) fn is_host(&self, id: ParticipantId) -> bool {
        self.participant(id).is_some_and(|p| p.role >= RoomRole::Host)
    }

    /// Somebody left: nothing points at it any more.
    pub(super) fn forget_guest(&mut self, participant: ParticipantId) {
        self.house.users.remove(&participant);
        self.house.expelled.retain(|(expelled, _)| *expelled != participant);
        if self.house.state.spotlight == Some(participant) {
            self.update(RoomState { spotlight: None, ..self.house.state });
        }
    }

    /// Applies what is decided about a participant to its producers.
    pub(super) fn review(&mut self, participant: ParticipantId) {
        let Some(info) = self.participant(participant).cloned() else { return };
        let hosts: HashSet<_> = self.participants.iter().filter(|p| p.role >= RoomRole::Host).map(|p| p.id).collect();
        for producer in self.producers.iter_mut().filter(|p| p.info.participant == participant) {
            let was_held = producer.is_held();
            producer.muted = info.is_muted(producer.info.kind);
            producer.isolated = info.isolated;
            let changed = was_held != producer.is_held();
            for consumer in &mut producer.consumers {
                let withheld = info.isolated && !hosts.contains(&consumer.participant);
                if changed || consumer.withheld != withheld {
                    consumer.withheld = withheld;
                    consumer.forwarder.interrupt();
                }
            }
        }
        self.roster_changed = true;
    }

    /// Everybody of this user goes, on whatever device.
    fn ban(&mut self, participant: ParticipantId) {
        let Some(user) = self.house.users.get(&participant).cloned() else { return };
        let devices = self.house.users.iter().filter(|(_, other)| **other == user).map(|(id, _)| *id);
        let reason = |id| (id, "the host banned you from this room");
        self.house.expelled.extend(devices.map(reason).collect::<Vec<_>>());
        self.house.banned.insert(user);
    }

    fn transfer_host(&mut self, by: Option<ParticipantId>, rank: RoomRole, to: ParticipantId) -> Result<(), RoomError> {
        let heir = self.participants.iter_mut().find(|p| p.id == to).ok_or(RoomError::UnknownParticipant)?;
        if heir.role != RoomRole::Musician {
            return Err(RoomError::NotAMusician);
        }
        heir.role = RoomRole::Host;
        self.decided(to);
        self.show_programme_to(to);
        // An admin stays one: it gives the role, but does not have it to lose.
        let giver = self.participants.iter_mut().find(|p| Some(p.id) == by && rank == RoomRole::Host);
        if let Some(giver) = giver {
            giver.role = RoomRole::Musician;
            let giver = giver.id;
            self.decided(giver);
            self.hide_programme_from(giver);
        }
        // Who hears the isolated depends on who is host.
        let isolated: Vec<_> = self.participants.iter().filter(|p| p.isolated).map(|p| p.id).collect();
        isolated.into_iter().for_each(|participant| self.review(participant));
        Ok(())
    }

    /// Somebody whom this rank may decide about.
    fn subordinate(&mut self, rank: RoomRole, id: ParticipantId) -> Result<&mut ParticipantInfo, RoomError> {
        let info = self.participants.iter_mut().find(|p| p.id == id).ok_or(RoomError::UnknownParticipant)?;
        if info.role < rank || rank == RoomRole::Admin { Ok(info) } else { Err(RoomError::RoleTooLow) }
    }

    fn decided(&mut self, participant: ParticipantId) {
        self.review(participant);
        let Some(info) = self.participant(participant).cloned() else { return };
        self.tell_all(&Notice::ParticipantUpdated(info));
    }

    fn update(&mut self, state: RoomState) {
        if self.house.state != state {
            self.house.state = state;
            self.tell_all(&Notice::RoomUpdated(state));
            self.roster_changed = true;
        }
    }
}

#[cfg(test)]
mod tests;
