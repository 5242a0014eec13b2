//! The Prometheus text of all metrics, format 0.0.4.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::{
    BUCKETS, Count, Grant, Histogram, LoginResult, METHODS, Metrics, RefreshResult, RouteMetrics, STATUSES, Statuses,
    WorkerMetrics,
};

impl Metrics {
    /// All of it in the Prometheus text format 0.0.4.
    pub fn encode(&self) -> String {
        let mut page = Page(String::with_capacity(16 * 1024));
        self.encode_requests(&mut page);
        self.encode_upstreams(&mut page);
        self.encode_control(&mut page);
        self.encode_own_keys(&mut page);
        self.encode_key_sources(&mut page);
        self.revocation.encode(&mut page);
        page.0
    }

    fn encode_requests(&self, page: &mut Page) {
        page.family("tollgate_requests_total", "counter", "Requests answered.");
        for (index, name) in self.route_names() {
            for (method, method_name) in METHODS.iter().enumerate() {
                let totals = self.statuses(|worker| worker.routes.get(index)?.requests[method].get());
                for (status, total) in totals {
                    let code = status.to_string();
                    let labels = [("route", name), ("method", method_name), ("code", &*code)];
                    page.sample("tollgate_requests_total", &labels, total);
                }
            }
        }
        page.family(
            "tollgate_request_duration_seconds",
            "histogram",
            "From a request's head to its response's last byte.",
        );
        for (index, name) in self.route_names() {
            let parts = self.workers.iter().filter_map(|worker| Some(&worker.routes.get(index)?.duration));
            page.histogram("tollgate_request_duration_seconds", &[("route", name)], parts);
        }
        type RouteCount = fn(&RouteMetrics) -> &Count;
        let byte_counts: [(&str, &str, RouteCount); 2] = [
            ("tollgate_request_bytes_total", "Bytes of request bodies.", |route| &route.bytes_in),
            ("tollgate_response_bytes_total", "Bytes of response bodies.", |route| &route.bytes_out),
        ];
        for (metric, help, count) in byte_counts {
            page.family(metric, "counter", help);
            for (index, name) in self.route_names() {
                let total = self
                    .workers
                    .iter()
                    .filter_map(|worker| worker.routes.get(index))
                    .map(|route| count(route).get())
                    .sum();
                page.sample(metric, &[("route", name)], total);
            }
        }
        page.family(
            "tollgate_refusals_total",
            "counter",
            "Requests that the gateway refused or could not serve, by code.",
        );
        for (index, code) in self.labels.refusals.iter().enumerate() {
            page.sample("tollgate_refusals_total", &[("code", code)], self.sum(|worker| worker.refusals.get(index)));
        }
        page.family("tollgate_requests_in_flight", "gauge", "Requests whose response has not ended.");
        page.sample("tollgate_requests_in_flight", &[], self.sum(|worker| Some(&worker.in_flight)));
        page.family("tollgate_token_cache_hits_total", "counter", "Tokens found verified.");
        page.sample("tollgate_token_cache_hits_total", &[], self.sum(|worker| Some(&worker.cache_hits)));
        page.family("tollgate_token_cache_misses_total", "counter", "Tokens that had to be verified.");
        page.sample("tollgate_token_cache_misses_total", &[], self.sum(|worker| Some(&worker.cache_misses)));
    }

    fn encode_upstreams(&self, page: &mut Page) {
        page.family("tollgate_upstream_requests_total", "counter", "Requests that an upstream answered.");
        for (index, (name, _)) in self.labels.upstreams.iter().enumerate() {
            for (status, total) in self.statuses(|worker| worker.upstreams.get(index)?.requests.get()) {
                let code = status.to_string();
                page.sample("tollgate_upstream_requests_total", &[("upstream", name), ("code", &code)], total);
            }
        }
        page.family(
            "tollgate_upstream_duration_seconds",
            "histogram",
            "From sending a request to its response's head.",
        );
        for (index, (name, _)) in self.labels.upstreams.iter().enumerate() {
            let parts = self.workers.iter().filter_map(|worker| Some(&worker.upstreams.get(index)?.duration));
            page.histogram("tollgate_upstream_duration_seconds", &[("upstream", name)], parts);
        }
        page.family(
            "tollgate_upstream_healthy",
            "gauge",
            "1 while requests are sent to a server, 0 while it is passed over.",
        );
        for ((name, servers), gauges) in self.labels.upstreams.iter().zip(&self.healthy) {
            for (server, gauge) in servers.iter().zip(gauges) {
                page.sample(
                    "tollgate_upstream_healthy",
                    &[("upstream", name), ("server", server)],
                    gauge.load(Relaxed),
                );
            }
        }
    }

    fn encode_control(&self, page: &mut Page) {
        page.family("tollgate_logins_total", "counter", "Logins by result.");
        for (result, name) in LoginResult::ALL {
            page.sample("tollgate_logins_total", &[("result", name)], self.logins[result as usize].load(Relaxed));
        }
        page.family("tollgate_login_duration_seconds", "histogram", "From a login's head to its answer.");
        page.histogram("tollgate_login_duration_seconds", &[], std::iter::once(&self.login_duration));
        page.family("tollgate_refreshes_total", "counter", "Refreshes by result.");
        for (result, name) in RefreshResult::ALL {
            page.sample("tollgate_refreshes_total", &[("result", name)], self.refreshes[result as usize].load(Relaxed));
        }
        page.family("tollgate_tokens_issued_total", "counter", "Access tokens issued.");
        for (grant, name) in Grant::ALL {
            page.sample(
                "tollgate_tokens_issued_total",
                &[("grant", name)],
                self.tokens_issued[grant as usize].load(Relaxed),
            );
        }
        page.family("tollgate_connections", "gauge", "Open connections by kind.");
        page.sample("tollgate_connections", &[("kind", "client")], self.sum(|worker| Some(&worker.connections)));
        let idle = self.sum(|worker| Some(&worker.idle_connections));
        page.sample("tollgate_connections", &[("kind", "client_idle")], idle);
        page.family(
            "tollgate_access_lines_dropped_total",
            "counter",
            "Access lines lost because their writer was behind.",
        );
        page.sample("tollgate_access_lines_dropped_total", &[], self.access_lines_dropped.load(Relaxed));
        page.family("tollgate_audit_events_total", "counter", "What happened to accounts, sessions and keys.");
        for (&(event, outcome), count) in self.labels.audit_events.iter().zip(&self.audit_events) {
            let labels = [("event", event), ("outcome", outcome)];
            page.sample("tollgate_audit_events_total", &labels, count.load(Relaxed));
        }
        let of_process = [
            ("tollgate_audit_lines_dropped_total", "Audit lines lost.", &self.process.audit_lines_dropped),
            (
                "tollgate_log_lines_dropped_total",
                "Lines of the application log lost, without those of the audit.",
                &self.process.log_lines_dropped,
            ),
            ("tollgate_panics_total", "Defects of the gateway, wherever they happened.", &self.process.panics),
        ];
        for (name, help, count) in of_process {
            page.family(name, "counter", help);
            page.sample(name, &[], count.load(Relaxed));
        }
        page.family("tollgate_build_info", "gauge", "1, with the version as a label.");
        page.sample("tollgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }

    fn route_names(&self) -> impl Iterator<Item = (usize, &str)> {
        let own = ["(issuer)", "(none)"];
        self.labels.routes.iter().map(|name| &**name).chain(own).enumerate()
    }

    fn sum<'a>(&'a self, count: impl Fn(&'a WorkerMetrics) -> Option<&'a Count>) -> u64 {
        // Gauges may be raised on one worker and lowered on another, so they wrap.
        self.workers.iter().filter_map(|worker| count(worker)).fold(0, |sum, count| sum.wrapping_add(count.get()))
    }

    /// The statuses that were counted, with their totals.
    fn statuses<'a>(&'a self, counts: impl Fn(&'a WorkerMetrics) -> Option<&'a Statuses>) -> Vec<(usize, u64)> {
        let parts: Vec<&Statuses> = self.workers.iter().filter_map(|worker| counts(worker)).collect();
        let total = |index: usize| parts.iter().map(|part| part[index].get()).sum();
        (0..STATUSES).map(|index| (index + 100, total(index))).filter(|&(_, total)| total > 0).collect()
    }
}

/// The text being written.
pub(super) struct Page(String);

impl Page {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.name(name, labels);
        self.line(format_args!("{value}"));
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        parts: impl Iterator<Item = &'a Histogram> + Clone,
    ) {
        let bucket_name = format!("{name}_bucket");
        let mut below = 0_u64;
        let bounds = BUCKETS.iter().map(|&(_, text)| text).chain(["+Inf"]);
        for (index, bound) in bounds.enumerate() {
            below += parts.clone().map(|part| part.buckets[index].get()).sum::<u64>();
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample(&bucket_name, &labels, below);
        }
        let micros: u64 = parts.map(|part| part.micros.get()).sum();
        self.name(&format!("{name}_sum"), labels);
        self.line(format_args!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
        self.sample(&format!("{name}_count"), labels, below);
    }

    pub(super) fn name(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.0.push_str(&format!("{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' }));
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
    }

    pub(super) fn line(&mut self, value: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(value);
        self.0.push('\n');
    }
}
