//! How the time of one CNI call is shared.
//!
//! Whoever waits has until its share is over or the call is, whichever comes first; of what takes
//! less than a second, until its share is. An undo alone may go beyond the call, by [`UNDO_GRACE`]: a
//! call ends after about 15 s, and after 5 s more for each further attachment that it has to undo.
//!
//! | who | has | where that is over |
//! |---|---|---|
//! | the call | [`CALL_DEADLINE`] | it must have answered |
//! | – a TCP connection to an agent | [`TCP_LIMIT`] | the agent is not reached |
//! | – an agent, for ADD's port | all but [`AFTER_AGENT`] | ADD fails, and its undo asks no agent |
//! | – an agent, for ports to delete | [`DELETE_PORTS_LIMIT`] | a tombstone keeps the rest |
//! | – this call's agent, for another's port | [`OTHER_AGENT_LIMIT`] | as above |
//! | – an agent, for an attachment without a record | [`UNRECORDED_LIMIT`] | DEL goes on |
//! | – ports of others, in passing | [`DRAIN_COURTESY`] | a later call deletes them |
//! | – a lock that is out of order | [`OUT_OF_ORDER_WAIT`] | its port stays in the way |
//! | – IPAM that speaks from the interface, for carrier | [`IPAM_CARRIER_WAIT`] | it is asked all the same |
//! | – the announcement, for carrier | [`ANNOUNCE_WAIT`] | it is sent into the dark |
//! | – a VF that comes back from a dead namespace | [`RETURN_WAIT`] | the sweep waits for it |
//! | – the locks of one attachment, in a GC | [`GC_PATIENCE`] | GC fails, and goes on with the others |
//! | the undo | what the call has left, at least [`UNDO_GRACE`] | the record keeps the rest |
//! | – IPAM that works on the interface | half of that | the VF goes home without |
//! | – the same, where the VF's next owner waits | [`NEXT_OWNERS_IPAM_LIMIT`] | as above |
//! | the sweep, to begin records | [`SWEEP_BEGINS`], and [`IPAM_LEAST`] before the call's end | the next call's turn |
//! | – one record | [`SWEEP_FIRST`] to [`SWEEP_MOST`] | it is left alone for a while |
//! | any IPAM plugin | the rest of the call, at least [`IPAM_LEAST`] | it is killed, or not begun |
//! | – its stdout, once it has ended | [`IPAM_LATECOMERS`] | what it wrote by then counts |
//!
//! How long what has failed is left alone between calls is told by [`journal`](crate::journal).

use std::time::Duration;

/// The time that one call has for everything: long enough for an agent's 5 s, short enough that a
/// runtime's own deadline doesn't cut the undo off.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// What of a call's time is kept from the agent, for what comes after it.
pub const AFTER_AGENT: Duration = Duration::from_secs(2);

/// How long a TCP connection may take to come about.
pub const TCP_LIMIT: Duration = Duration::from_secs(1);

/// A failure of an agent slower than this counts as a hang.
pub const HANG: Duration = Duration::from_millis(250);

/// How long an agent may take to delete ports. The rest of the call needs some of its time as well,
/// and a tombstone keeps what isn't done by then.
pub const DELETE_PORTS_LIMIT: Duration = Duration::from_secs(3);

/// Limit for asking this call's agent, which may be the recorded one under a new address.
pub const OTHER_AGENT_LIMIT: Duration = Duration::from_secs(1);

/// The time that the agent may take for an attachment without a record: there should be nothing to
/// do. IPAM has what the call has left after it.
pub const UNRECORDED_LIMIT: Duration = Duration::from_secs(2);

/// The time that ports of others may cost a call that needs none of them deleted.
pub const DRAIN_COURTESY: Duration = Duration::from_millis(500);

/// How long a lock on somebody else's attachment is waited for by a call that has its VF's lock:
/// the order is the other way round, so whoever has that one may be waiting for this call. Long
/// enough for a DEL that has just let go of the VF.
pub const OUT_OF_ORDER_WAIT: Duration = Duration::from_millis(100);

/// How long an announcement waits for carrier: most links have it at once, and a pod with one that
/// hasn't must start all the same.
pub const ANNOUNCE_WAIT: Duration = Duration::from_millis(200);

/// The same for IPAM that speaks from the interface: what it says before there is carrier is lost,
/// and a DHCP client says it again only after seconds (RFC 2131, section 4.1). A VF hears of its
/// link by a mailbox, which some drivers look into every 2 s.
pub const IPAM_CARRIER_WAIT: Duration = Duration::from_secs(3);

/// How long a VF's return from a dead namespace is waited for.
pub const RETURN_WAIT: Duration = Duration::from_millis(500);

/// How long GC waits for the locks of one attachment and its VF: a call that hangs must not cost the
/// others.
pub const GC_PATIENCE: Duration = Duration::from_secs(2);

/// The time an undo has when the call's own has run out: an ADD that failed at its deadline must
/// still clean up.
pub const UNDO_GRACE: Duration = Duration::from_secs(5);

/// The time that an IPAM which must be asked before the VF moves may cost the VF's next owner.
pub const NEXT_OWNERS_IPAM_LIMIT: Duration = Duration::from_secs(1);

/// How long the sweep begins records.
pub const SWEEP_BEGINS: Duration = Duration::from_millis(100);

/// What a record that the sweep has begun may take. It has twice that after each failure, up to
/// [`SWEEP_MOST`].
pub const SWEEP_FIRST: Duration = Duration::from_secs(2);

/// What it may take at the most.
pub const SWEEP_MOST: Duration = Duration::from_secs(10);

/// The time without which no IPAM plugin is started: one that is well would be killed for ours that
/// is used up, and be taken for one that hangs.
pub const IPAM_LEAST: Duration = Duration::from_millis(250);

/// How long what a plugin leaves to others to write is waited for once it has ended, where nothing
/// whole is there yet: a shell waits for no `tee` that it has put behind its stdout.
pub const IPAM_LATECOMERS: Duration = Duration::from_millis(200);

/// An undo can wait for the VF's return, and ask two agents one after the other.
const _: () = {
    let agents = DELETE_PORTS_LIMIT.as_millis() + OTHER_AGENT_LIMIT.as_millis();
    assert!(agents + RETURN_WAIT.as_millis() <= UNDO_GRACE.as_millis());
};

/// A default IPAM, and the announcement, fit into what the agent leaves.
const _: () = {
    let after = IPAM_LEAST.as_millis() + ANNOUNCE_WAIT.as_millis();
    assert!(after <= AFTER_AGENT.as_millis());
};
