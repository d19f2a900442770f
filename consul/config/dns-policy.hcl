# For Consul's DNS (`consul acl set-agent-token dns …`): without it DNS names nothing.

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
