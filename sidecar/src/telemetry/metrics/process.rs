//! The process's own numbers, from `/proc/self` (proc(5)). What cannot be read is left out.

use std::fs;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::scrape::{NO_LABELS, counter, gauge};

#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let mut process = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            ticks_per_second,
        );
        // One of them is the listing's own.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1));
        process
    }

    fn parse(stat: &str, boot: &str, status: &str, limits: &str, ticks_per_second: f64) -> Self {
        // The second field is the program's name in parentheses, with whatever in it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        // proc(5) counts fields from 1; the first one after the name is the third.
        let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
        let after = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |key| after(status, key).map(|kib| kib * 1024);
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / ticks_per_second),
            start_seconds: field(22)
                .zip(after(boot, "btime "))
                .map(|(since_boot, boot)| boot as f64 + since_boot / ticks_per_second),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            threads: after(status, "Threads:"),
            open_fds: None,
            max_fds: after(limits, "Max open files"),
        }
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let seconds = Some(&Unit::Seconds);
        let bytes = Some(&Unit::Bytes);
        counter(
            encoder,
            "process_cpu",
            "CPU time spent, user and system",
            seconds,
            self.cpu_seconds.map(|v| (NO_LABELS, v)),
        )?;
        gauge(
            encoder,
            "process_start_time",
            "When the process started, since the epoch",
            seconds,
            self.start_seconds.map(|v| (NO_LABELS, v)),
        )?;
        gauge(
            encoder,
            "process_resident_memory",
            "Memory that is in RAM",
            bytes,
            self.resident_bytes.map(|v| (NO_LABELS, v)),
        )?;
        gauge(
            encoder,
            "process_virtual_memory",
            "Memory that is mapped",
            bytes,
            self.virtual_bytes.map(|v| (NO_LABELS, v)),
        )?;
        gauge(encoder, "process_threads", "Threads", None, self.threads.map(|v| (NO_LABELS, v)))?;
        gauge(
            encoder,
            "process_open_fds",
            "Open file descriptors",
            None,
            self.open_fds.map(|v| (NO_LABELS, v)),
        )?;
        gauge(
            encoder,
            "process_max_fds",
            "Most file descriptors that may be open",
            None,
            self.max_fds.map(|v| (NO_LABELS, v)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1000 5 6";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        let status = "Name:\tx\nVmSize:\t 20 kB\nVmRSS:\t 10 kB\nThreads:\t3\n";
        let process = Process::parse(stat, "cpu 1\nbtime 5000\n", status, limits, 100.0);
        let expected = Process {
            cpu_seconds: Some(3.0),
            start_seconds: Some(5010.0),
            resident_bytes: Some(10_240),
            virtual_bytes: Some(20_480),
            threads: Some(3),
            open_fds: None,
            max_fds: Some(1024),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Process::parse("", "", "", "Max open files unlimited", 100.0), {
            Process::default()
        });
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(0));
        assert!(process.threads > Some(0));
        assert!(process.open_fds > Some(0));
        assert!(process.max_fds >= process.open_fds);
        assert!(process.start_seconds > Some(0.0));
    }
}
