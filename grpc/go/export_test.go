package mqgrpc

// Pending is how many messages have no result.
func (p *Publisher) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

// Unanswered is how many batches were sent without an answer so far.
func (p *Publisher) Unanswered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.link.sent)
}

// Waiting is how many wait for room.
func (p *Publisher) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiters)
}
