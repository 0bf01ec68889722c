//! Every limit on a connector, in one place, with its default and the reason for it. docs/sandbox.md shows the same
//! table with the threats and the tests; a test compares the two.
//!
//! Why one place: a limit that nobody can find is a limit that nobody can raise. All hold per step and so per tenant,
//! because a step has an instance of its own.
//! Not here: how many steps run at once (`EngineOptions`), and how long a cycle goes on (`CycleOptions`).
//! Not guaranteed: time spent inside a host call is not cut short by the CPU limit, only by the wall clock.

use std::time::Duration;

/// Limits on a connector. Bytes are bytes, not kilobytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    // ---- running ----------------------------------------------------------------
    /// Bytes of all linear memories of an instance together. Default 64 MiB: one page of a vendor's list, its
    /// artifacts and the checkpoint need a few; a leak ends before it hurts the neighbours.
    pub memory_bytes: usize,
    /// Bytes of a guest's stack. Default 512 KiB, as engines commonly give: recursion ends there and not in the host's.
    pub stack_bytes: usize,
    /// Time on the CPU in one step, counted while the guest runs and not while it waits. Default 20 s: a hundred
    /// times what a large step needs on a slow machine. Exact to one [`super::TICK`].
    pub cpu_per_step: Duration,
    /// Wall-clock time of one step, whatever budget it was given. Default 5 minutes: longer than a large step at a
    /// slow vendor, shorter than the usual polling interval times two.
    pub wall_per_step: Duration,
    /// Wall-clock time of one check before an instance is saved, by the contract; somebody waits for it. Default 60 s.
    pub wall_per_check: Duration,
    /// What a step gets beyond the wall time of its budget, and a check beyond its own, to end in good order. Default 10 s.
    pub wall_grace: Duration,
    /// Time on the CPU of `describe` and `configure`, which only compute; their wall-clock time is `wall_grace` longer.
    /// Default 5 s: a thousand times what they need, for a machine that is busy.
    pub pure_call: Duration,
    /// Bytes that one call may carry from guest to host, the results of an export included. Default 48 MiB: the
    /// largest batch, with room for its frame. What exceeds it ends the step before the host allocates it.
    pub hostcall_bytes: usize,
    /// Handles and host resources alive at once. Default 512: a request in flight needs about a dozen, and each may hold
    /// a few times [`Limits::request_head_bytes`] of this host's memory, all together some 60 MB.
    pub handles: usize,
    /// Core instances of one component, with the small ones that toolchains add. Default 64.
    pub core_instances: usize,
    /// Linear memories of one component. Default 2: one is usual.
    pub memories: usize,
    /// Tables of one component. Default 16: two are usual.
    pub tables: usize,
    /// Elements of one table. Default 20 000: one per function that is called indirectly.
    pub table_elements: usize,
    // ---- requests ---------------------------------------------------------------
    /// Requests in flight at once; more wait. A place is held until the body of the response is read or dropped.
    /// Default 32: as many as any setting allows a connector to use.
    pub requests_in_flight: usize,
    /// Requests of one step, whatever budget it was given. Default 10 000.
    pub requests_per_step: u32,
    /// Requests of one check before an instance is saved. Default 16: the contract says a few.
    pub requests_per_check: u32,
    /// Bytes of a request's path and query together. Default 8 KiB: what common servers take.
    pub request_target_bytes: usize,
    /// Refused requests of one step that are told one by one in the log. Default 20: enough to see what a connector is
    /// after; a refusal costs the guest nothing.
    pub refusals_logged: u32,
    /// Bytes of a request's headers. Default 16 KiB: what common servers take.
    pub request_head_bytes: usize,
    /// Bytes of a request's body. Default 1 MiB: a search with a hundred identifiers is far below.
    pub request_body_bytes: usize,
    /// Bytes of a response's headers. Default 64 KiB.
    pub response_head_bytes: usize,
    /// Bytes of a response's body after decompression. Default 32 MiB: half of the guest's memory.
    pub response_body_bytes: u64,
    /// Longest wait for the resolver. Default 5 s.
    pub dns_timeout: Duration,
    /// Longest wait for a connection, with name resolution and TLS. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest wait for the head of a response once connected. Default 60 s: vendors' searches are slow.
    pub first_byte_timeout: Duration,
    /// Longest wait for the next bytes of a body. Default 30 s.
    pub between_bytes_timeout: Duration,
    /// How long an idle connection is kept. Default 15 s: far longer than the pauses within a poll. Polls are a minute apart
    /// at least, when many servers have closed theirs; until then it would only cost memory and a file.
    pub idle_timeout: Duration,
    // ---- results ----------------------------------------------------------------
    /// Artifacts of one batch. Default 50 000.
    pub artifacts: usize,
    /// Bytes of all artifacts of one batch together. Default 32 MiB: what one transaction of the store takes in stride.
    pub batch_bytes: usize,
    /// Bytes of a checkpoint. Default and contract: 1 MiB.
    pub checkpoint_bytes: usize,
    /// Bytes of a text for people, such as a failure's message; longer ones are cut. Default 2 KiB.
    pub text_bytes: usize,
    /// Log lines of one step; more are dropped. Default 1000.
    pub log_lines: u32,
    /// Bytes of one log line; longer ones are cut. Default 4 KiB.
    pub log_line_bytes: usize,
    /// Bytes of all log lines of one step; more are dropped. Default 256 KiB.
    pub log_bytes: usize,
    // ---- loading ----------------------------------------------------------------
    /// Bytes of a component. Default 16 MiB: compiling takes time and memory in proportion.
    pub component_bytes: u64,
}

/// One kibibyte.
const KIB: usize = 1024;

/// One mebibyte.
const MIB: usize = 1024 * KIB;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * MIB,
            stack_bytes: 512 * KIB,
            cpu_per_step: Duration::from_secs(20),
            wall_per_step: Duration::from_mins(5),
            wall_per_check: Duration::from_mins(1),
            wall_grace: Duration::from_secs(10),
            pure_call: Duration::from_secs(5),
            hostcall_bytes: 48 * MIB,
            handles: 512,
            core_instances: 64,
            memories: 2,
            tables: 16,
            table_elements: 20_000,
            requests_in_flight: 32,
            requests_per_step: 10_000,
            requests_per_check: 16,
            request_target_bytes: 8 * KIB,
            refusals_logged: 20,
            request_head_bytes: 16 * KIB,
            request_body_bytes: MIB,
            response_head_bytes: 64 * KIB,
            response_body_bytes: 32 << 20,
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_mins(1),
            between_bytes_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15),
            artifacts: 50_000,
            batch_bytes: 32 * MIB,
            checkpoint_bytes: MIB,
            text_bytes: 2 * KIB,
            log_lines: 1000,
            log_line_bytes: 4 * KIB,
            log_bytes: 256 * KIB,
            component_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// Every limit by its name, with its value as people read it (`64 MiB`, `20 s`, `10 000`), in the order of the fields.
    #[must_use]
    pub fn table(&self) -> Vec<(&'static str, String)> {
        // Without `..`: a new limit cannot be forgotten here.
        let Self {
            memory_bytes,
            stack_bytes,
            cpu_per_step,
            wall_per_step,
            wall_per_check,
            wall_grace,
            pure_call,
            hostcall_bytes,
            handles,
            core_instances,
            memories,
            tables,
            table_elements,
            requests_in_flight,
            requests_per_step,
            requests_per_check,
            request_target_bytes,
            refusals_logged,
            request_head_bytes,
            request_body_bytes,
            response_head_bytes,
            response_body_bytes,
            dns_timeout,
            connect_timeout,
            first_byte_timeout,
            between_bytes_timeout,
            idle_timeout,
            artifacts,
            batch_bytes,
            checkpoint_bytes,
            text_bytes,
            log_lines,
            log_line_bytes,
            log_bytes,
            component_bytes,
        } = self;
        vec![
            ("memory_bytes", bytes(*memory_bytes)),
            ("stack_bytes", bytes(*stack_bytes)),
            ("cpu_per_step", time(*cpu_per_step)),
            ("wall_per_step", time(*wall_per_step)),
            ("wall_per_check", time(*wall_per_check)),
            ("wall_grace", time(*wall_grace)),
            ("pure_call", time(*pure_call)),
            ("hostcall_bytes", bytes(*hostcall_bytes)),
            ("handles", count(*handles)),
            ("core_instances", count(*core_instances)),
            ("memories", count(*memories)),
            ("tables", count(*tables)),
            ("table_elements", count(*table_elements)),
            ("requests_in_flight", count(*requests_in_flight)),
            ("requests_per_step", count(*requests_per_step)),
            ("requests_per_check", count(*requests_per_check)),
            ("request_target_bytes", bytes(*request_target_bytes)),
            ("refusals_logged", count(*refusals_logged)),
            ("request_head_bytes", bytes(*request_head_bytes)),
            ("request_body_bytes", bytes(*request_body_bytes)),
            ("response_head_bytes", bytes(*response_head_bytes)),
            ("response_body_bytes", bytes(*response_body_bytes)),
            ("dns_timeout", time(*dns_timeout)),
            ("connect_timeout", time(*connect_timeout)),
            ("first_byte_timeout", time(*first_byte_timeout)),
            ("between_bytes_timeout", time(*between_bytes_timeout)),
            ("idle_timeout", time(*idle_timeout)),
            ("artifacts", count(*artifacts)),
            ("batch_bytes", bytes(*batch_bytes)),
            ("checkpoint_bytes", bytes(*checkpoint_bytes)),
            ("text_bytes", bytes(*text_bytes)),
            ("log_lines", count(*log_lines)),
            ("log_line_bytes", bytes(*log_line_bytes)),
            ("log_bytes", bytes(*log_bytes)),
            ("component_bytes", bytes(*component_bytes)),
        ]
    }
}

/// A number of bytes in the largest unit that it is a whole number of.
fn bytes(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().unwrap_or(u64::MAX);
    match bytes {
        0 => "0 B".to_owned(),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

/// A length of time in minutes, seconds or milliseconds.
fn time(time: Duration) -> String {
    match time.as_millis() {
        millis if millis >= 60_000 && millis.is_multiple_of(60_000) => format!("{} min", millis / 60_000),
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// A number, its digits in groups of three.
fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shown_as_people_read_them() {
        assert_eq!([0_usize, 1, 1024, 1536, 64 << 20].map(bytes), ["0 B", "1 B", "1 KiB", "1536 B", "64 MiB"]);
        assert_eq!(
            [0_u32, 7, 999, 1000, 20_000, 1_234_567].map(count),
            ["0", "7", "999", "1 000", "20 000", "1 234 567"]
        );
        let times = [(0, "0 s"), (10, "10 ms"), (20_000, "20 s"), (90_000, "90 s"), (300_000, "5 min")];
        for (millis, shown) in times {
            assert_eq!(time(Duration::from_millis(millis)), shown);
        }
    }
}
