//! Who belongs to the ensemble: reconfig, and the znode that shows it.

use bytes::Bytes;

use super::event::MembershipRefusal;
use super::leader::{Asking, Leader};
use super::role::Role;
use super::{Action, Coordinator, Members, Now};
use crate::acl;
use crate::decide::Asker;
use crate::error::OpError;
use crate::forward::{ForwardAnswer, Outcome};
use crate::origin::Origin;
use crate::reconfig::{CONFIG_PATH, Reconfig, config_text, config_version};
use crate::request::Write;
use crate::state::State;
use crate::txn::Txn;
use crate::zxid::{SessionId, Zxid};

/// Which changes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconfigRules {
    /// Whether any is (`reconfigEnabled`).
    pub enabled: bool,
    /// How many voters have to be left.
    pub min_voters: usize,
}

/// A change that Raft has been asked for.
#[derive(Debug)]
pub(super) struct Changing {
    token: u64,
    origin: Origin,
    /// The members are changed, and only have to be shown.
    done: bool,
}

/// Of the changes that one leader asks for, whose answers are told apart from those of a former one.
#[derive(Debug)]
pub(super) struct Changes {
    /// Of the change that was asked for last.
    token: u64,
    /// One at a time.
    under_way: Option<Changing>,
}

impl Changes {
    /// None yet. `leadership` counts how often this member has led.
    pub(super) fn new(leadership: u32) -> Changes {
        Changes {
            token: u64::from(leadership) << 32,
            under_way: None,
        }
    }

    fn named(&mut self, token: u64) -> Option<&mut Changing> {
        let changing = self.under_way.as_mut();
        changing.filter(|changing| changing.token == token)
    }
}

impl Leader {
    /// Checks a reconfig, in ZooKeeper's order, and asks Raft for it.
    pub(super) fn reconfig(
        &mut self,
        state: &State,
        asking: Asking<'_>,
        reconfig: &Reconfig,
        actions: &mut Vec<Action>,
    ) -> Result<(), OpError> {
        let rules = self.reconfig_rules;
        if !rules.enabled {
            return Err(OpError::ReconfigDisabled);
        }
        if self.members.is_empty() {
            return Err(OpError::Unimplemented);
        }
        if self.changes.under_way.is_some() {
            return Err(OpError::ReconfigInProgress);
        }
        let config = state.tree.get(CONFIG_PATH).ok_or(OpError::NoNode)?;
        let version = config.data.as_deref().and_then(config_version);
        let version = version.unwrap_or(Zxid(0));
        let members = reconfig.members(&self.members, version, rules.min_voters)?;
        config.acl.check(acl::WRITE, asking.identities)?;
        self.changes.token += 1;
        let token = self.changes.token;
        self.changes.under_way = Some(Changing {
            token,
            origin: asking.origin,
            done: false,
        });
        actions.push(Action::ChangeMembership { token, members });
        Ok(())
    }

    /// Has `/zookeeper/config` show the members, if it shows others. That also answers a reconfig that is done. While one is
    /// under way the members are on their way to what it asked for, or back, and not shown.
    fn show(&mut self, state: &State, members: &Members, now: Now, actions: &mut Vec<Action>) {
        self.members = members.clone();
        let asked = self.changes.under_way.take_if(|changing| changing.done);
        if self.changes.under_way.is_some() {
            return;
        }
        let shown = state.tree.get(CONFIG_PATH);
        let shown = shown.and_then(|node| node.data.as_deref());
        let version = shown.and_then(config_version).unwrap_or(Zxid(0));
        if asked.is_none()
            && (members.is_empty() || shown == Some(config_text(members, version).as_bytes()))
        {
            return;
        }
        let zxid = self.next_zxid();
        let write = Write::SetData {
            path: CONFIG_PATH.into(),
            data: Some(Bytes::from(config_text(members, zxid))),
            version: -1,
        };
        let nobody = Asker {
            session: SessionId::NONE,
            identities: &[acl::super_user()],
        };
        let decided = self
            .outstanding
            .decide(state, nobody, zxid, now.wall_ms, &[write]);
        if let Ok(txn) = decided {
            let origin = asked.map(|changing| changing.origin);
            self.propose(Txn { origin, ..txn }, actions);
        }
    }
}

impl Coordinator {
    /// The members of the ensemble are others from here on, or are told for the first time.
    pub(super) fn membership_changed(
        &mut self,
        now: Now,
        members: Members,
        actions: &mut Vec<Action>,
    ) {
        self.members = members;
        self.show_membership(now, actions);
    }

    pub(super) fn show_membership(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let Role::Leading(leader) = &mut self.role {
            leader.show(&self.state, &self.members, now, actions);
        }
    }

    /// The members are those that a reconfig asked for.
    pub(super) fn reconfig_done(&mut self, now: Now, token: u64, actions: &mut Vec<Action>) {
        let leader = self.role.leader();
        if let Some(changing) = leader.and_then(|leader| leader.changes.named(token)) {
            changing.done = true;
            self.show_membership(now, actions);
        }
    }

    /// What a reconfig asked for did not come to be.
    pub(super) fn reconfig_refused(
        &mut self,
        now: Now,
        token: u64,
        refusal: MembershipRefusal,
        actions: &mut Vec<Action>,
    ) {
        let Some(leader) = self.role.leader() else {
            return;
        };
        let under_way = &mut leader.changes.under_way;
        let Some(Changing { origin, .. }) = under_way.take_if(|changing| changing.token == token)
        else {
            return;
        };
        let answer = ForwardAnswer::Settled {
            request: origin.request,
            after: self.state.last_zxid,
            outcome: match refusal {
                MembershipRefusal::Unknown => Outcome::Unknown,
                MembershipRefusal::InProgress => Outcome::Refused(OpError::ReconfigInProgress),
                MembershipRefusal::NoQuorum => Outcome::Refused(OpError::NewConfigNoQuorum),
            },
        };
        self.answer_member(now, origin.node, answer, actions);
        // Of what was asked for some may have come to be.
        self.show_membership(now, actions);
    }
}
