"""Who runs when: requests, queues, admission and the plan of each step."""
