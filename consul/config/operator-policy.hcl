# For who runs the mesh (`outrigger up`, a pipeline): says who may call whom, reads all else.

service_prefix "" {
  policy     = "read"
  intentions = "write"
}

node_prefix "" {
  policy = "read"
}

agent_prefix "" {
  policy = "read"
}

# Rotates the roots of the mesh's CA; leave it out where another may do that.
operator = "write"
