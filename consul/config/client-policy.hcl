# The least that a sidecar without an app needs (a job, a gateway, a person's client). Put its own
# name in place of {{service}}.

# Have its leaf: a caller too is somebody.
service "{{service}}" {
  policy = "write"
}

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
