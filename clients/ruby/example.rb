# frozen_string_literal: true

# Assesses the texts and records on standard input, one JSON value a line, and prints a result a line.
#
#   ruby example.rb http://localhost:8080 [DEADLINE_MS] < items.jsonl

require_relative "lib/merchantguard"

url, deadline_ms = ARGV
deadline = (deadline_ms || 30_000).to_f / 1000
client = Merchantguard::Client.new(url, api_key: ENV["MERCHANTGUARD_KEY"], deadline: deadline, batch: 8)
items = $stdin.set_encoding("UTF-8").each_line.map { |line| Merchantguard.parse(line) }
begin
  client.assess_many(items).each { |result| puts JSON.generate(result) }
rescue Merchantguard::ServiceError => e
  warn "#{e.status} #{e.type}: #{e.message}"
  exit 1
end
