"""The two learners: what each trains, on which loss."""
