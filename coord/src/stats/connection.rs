//! What one connection has done, for `cons` and `stat`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Written by the connection's own reader and writer, read by whoever asks.
#[derive(Debug)]
pub(crate) struct ConnectionStats {
    /// The client's end.
    pub(crate) peer: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) secure: bool,
    /// When it was accepted, in milliseconds since 1970.
    pub(crate) established_ms: i64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Requests that came, and those that were answered: not reset, for the difference is what is queued.
    requests: AtomicU64,
    answers: AtomicU64,
    session: AtomicI64,
    session_timeout_ms: AtomicU32,
    last_op: AtomicI32,
    last_xid: AtomicI32,
    last_zxid: AtomicI64,
    last_response_ms: AtomicI64,
    last_latency_us: AtomicU64,
    min_latency_us: AtomicU64,
    max_latency_us: AtomicU64,
    latency_sum_us: AtomicU64,
    latencies: AtomicU64,
}

/// An answer on its way to the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) op_code: i32,
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) latency: Duration,
    /// In milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// The figures of a [`ConnectionStats`] at some time; latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionFigures {
    pub(crate) queued: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// 0 before there is one.
    pub(crate) session: i64,
    pub(crate) session_timeout_ms: u32,
    /// Four letters; `NA` if there was none yet.
    pub(crate) last_op: &'static str,
    /// −1 if there was none that the client numbered.
    pub(crate) last_xid: i32,
    pub(crate) last_zxid: i64,
    /// In milliseconds since 1970; 0 if there was none.
    pub(crate) last_response_ms: i64,
    pub(crate) last_latency_ms: u64,
    pub(crate) min_latency_ms: u64,
    pub(crate) avg_latency_ms: u64,
    pub(crate) max_latency_ms: u64,
}

/// No operation.
const NONE: i32 = 0;

impl ConnectionStats {
    /// Of a connection that was just accepted.
    pub(crate) fn new(peer: SocketAddr, secure: bool, established_ms: i64) -> ConnectionStats {
        ConnectionStats {
            peer,
            secure,
            established_ms,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            session: AtomicI64::new(0),
            session_timeout_ms: AtomicU32::new(0),
            last_op: AtomicI32::new(NONE),
            last_xid: AtomicI32::new(-1),
            last_zxid: AtomicI64::new(-1),
            last_response_ms: AtomicI64::new(0),
            last_latency_us: AtomicU64::new(0),
            min_latency_us: AtomicU64::new(u64::MAX),
            max_latency_us: AtomicU64::new(0),
            latency_sum_us: AtomicU64::new(0),
            latencies: AtomicU64::new(0),
        }
    }

    /// A frame came: the handshake, or a four-letter word.
    pub(crate) fn received(&self) {
        add(&self.received, 1);
    }

    /// A request came.
    pub(crate) fn requested(&self) {
        self.received();
        add(&self.requests, 1);
    }

    /// Frames were sent.
    pub(crate) fn sent(&self, frames: u64) {
        add(&self.sent, frames);
    }

    /// The session was accepted.
    pub(crate) fn accepted(&self, session: i64, timeout_ms: u32) {
        self.session.store(session, Relaxed);
        self.session_timeout_ms.store(timeout_ms, Relaxed);
    }

    /// A request was answered.
    pub(crate) fn answered(&self, answer: Answered) {
        add(&self.answers, 1);
        // The numbers below zero are the protocol's own, of pings for example.
        if answer.xid >= 0 {
            self.last_xid.store(answer.xid, Relaxed);
        }
        self.last_op.store(answer.op_code, Relaxed);
        self.last_zxid.store(answer.zxid, Relaxed);
        self.last_response_ms.store(answer.at_ms, Relaxed);
        let us = answer.latency.as_micros() as u64;
        self.last_latency_us.store(us, Relaxed);
        let min = self.min_latency_us.load(Relaxed);
        self.min_latency_us.store(min.min(us), Relaxed);
        let max = self.max_latency_us.load(Relaxed);
        self.max_latency_us.store(max.max(us), Relaxed);
        add(&self.latency_sum_us, us);
        add(&self.latencies, 1);
    }

    /// Forgets all but the session and what is queued.
    pub(crate) fn reset(&self) {
        for figure in [
            &self.received,
            &self.sent,
            &self.last_latency_us,
            &self.max_latency_us,
            &self.latency_sum_us,
            &self.latencies,
        ] {
            figure.store(0, Relaxed);
        }
        self.min_latency_us.store(u64::MAX, Relaxed);
        self.last_op.store(NONE, Relaxed);
        self.last_xid.store(-1, Relaxed);
        self.last_zxid.store(-1, Relaxed);
        self.last_response_ms.store(0, Relaxed);
    }

    /// What there is by now.
    pub(crate) fn figures(&self) -> ConnectionFigures {
        let ms = |us: u64| us / 1000;
        let count = self.latencies.load(Relaxed);
        let min = self.min_latency_us.load(Relaxed);
        let answers = self.answers.load(Relaxed);
        ConnectionFigures {
            queued: self.requests.load(Relaxed).saturating_sub(answers),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            session: self.session.load(Relaxed),
            session_timeout_ms: self.session_timeout_ms.load(Relaxed),
            last_op: op_name(self.last_op.load(Relaxed)),
            last_xid: self.last_xid.load(Relaxed),
            last_zxid: self.last_zxid.load(Relaxed),
            last_response_ms: self.last_response_ms.load(Relaxed),
            last_latency_ms: ms(self.last_latency_us.load(Relaxed)),
            min_latency_ms: if min == u64::MAX { 0 } else { ms(min) },
            avg_latency_ms: ms(self.latency_sum_us.load(Relaxed) / count.max(1)),
            max_latency_ms: ms(self.max_latency_us.load(Relaxed)),
        }
    }
}

/// Each figure has one writer, so that no other can come between the load and the store.
fn add(figure: &AtomicU64, more: u64) {
    figure.store(figure.load(Relaxed) + more, Relaxed);
}

/// ZooKeeper's short names.
fn op_name(op_code: i32) -> &'static str {
    match op_code {
        1 | 15 | 19 | 21 => "CREA",
        2 => "DELE",
        3 => "EXIS",
        4 => "GETD",
        5 => "SETD",
        6 => "GETA",
        7 => "SETA",
        8 | 12 => "GETC",
        9 => "SYNC",
        11 => "PING",
        13 => "CHEC",
        14 => "MULT",
        16 => "RECO",
        17 => "CHKW",
        18 => "REMW",
        22 => "MLTR",
        101 => "SETW",
        103 => "GETE",
        104 => "GETACN",
        105 => "STW2",
        106 => "ADDW",
        107 => "HOMI",
        -11 => "CLOS",
        _ => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(op_code: i32, xid: i32, ms: u64) -> Answered {
        Answered {
            op_code,
            xid,
            zxid: 7,
            latency: Duration::from_millis(ms),
            at_ms: 99,
        }
    }

    #[test]
    fn figures_follow_what_happens() {
        let stats = ConnectionStats::new("127.0.0.1:9".parse().unwrap(), false, 1);
        let fresh = stats.figures();
        assert_eq!(
            (fresh.last_op, fresh.last_xid, fresh.session),
            ("NA", -1, 0)
        );
        stats.received();
        stats.accepted(5, 4000);
        for _ in 0..4 {
            stats.requested();
        }
        stats.sent(3);
        for (op_code, xid, ms) in [(4, 1, 10), (14, 2, 2), (11, -2, 3)] {
            stats.answered(answer(op_code, xid, ms));
        }
        let figures = stats.figures();
        assert_eq!((figures.queued, figures.received, figures.sent), (1, 5, 3));
        assert_eq!((figures.session, figures.session_timeout_ms), (5, 4000));
        assert_eq!(
            (figures.last_op, figures.last_xid, figures.last_zxid),
            ("PING", 2, 7)
        );
        assert_eq!(
            (
                figures.last_latency_ms,
                figures.min_latency_ms,
                figures.avg_latency_ms,
                figures.max_latency_ms
            ),
            (3, 2, 5, 10)
        );
        stats.reset();
        let reset = stats.figures();
        assert_eq!(
            (reset.queued, reset.received, reset.max_latency_ms),
            (1, 0, 0)
        );
        assert_eq!(
            (reset.session, reset.last_op, reset.min_latency_ms),
            (5, "NA", 0)
        );
    }
}
