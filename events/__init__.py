"""An upload becomes a rollout: storage events to revisions."""
