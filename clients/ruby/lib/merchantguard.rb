# frozen_string_literal: true

# Client of the scoring service (`merchantguard serve`). Needs nothing but Ruby's standard library.

require "json"
require "net/http"
require "securerandom"
require "uri"

module Merchantguard
  ESCAPE = /\\(?:u[dD][89abAB]\h{2}\\u[dD][c-fC-F]\h{2}|(?<half>u[dD][89a-fA-F]\h{2})|.)/m

  # Read JSON. Half a surrogate pair, which other languages' texts may hold and Ruby's cannot, becomes U+FFFD.
  def self.parse(text)
    JSON.parse(text.gsub(ESCAPE) { |found| Regexp.last_match[:half] ? "\\ufffd" : found })
  end

  # The service's refusal, or none of its answers in time. `status` is 0 where there was no answer.
  class ServiceError < StandardError
    attr_reader :status, :type, :request_id, :retry_after

    def initialize(message, status: 0, type: "unreachable", request_id: nil, retry_after: nil, may_retry: false)
      super(message)
      @status = status
      @type = type
      @request_id = request_id
      @retry_after = retry_after
      @may_retry = may_retry
    end

    def may_retry?
      @may_retry
    end
  end

  class Client
    LONGEST_WAIT = 10.0
    FIRST_WAIT = 0.1
    # Errors of single items that may pass: the service had no room for part of a list.
    BUSY = %w[queue_full draining log_full].freeze

    # `deadline` (seconds) bounds a request with all its retries and is told to the service; `retries` after 429, 503 and
    # a refused connection; `batch` items go in one request.
    def initialize(url, api_key: nil, deadline: 30.0, retries: 5, batch: 100)
      @url = url.sub(%r{/+\z}, "")
      @api_key = api_key
      @deadline = deadline
      @retries = retries
      @batch = batch
    end

    # Assess one text or record; raises ServiceError if it cannot be assessed.
    def assess(item, **options)
      result = assess_many([item], **options).first
      error = result["error"]
      raise ServiceError.new(error["message"], status: 422, type: error["type"]) if error

      result
    end

    # Assess texts and records, in their order; each has its own result, or "error" where it is wrong.
    def assess_many(items, **options)
      results = items.each_slice(@batch).flat_map { |some| assess_patiently(some, **options) }
      results.each_with_index.map { |result, index| result.merge("index" => index) }
    end

    # The bundle in use, its policies and thresholds.
    def model
      request(Net::HTTP::Get, "/v1/model", nil)
    end

    private

    # Assess a batch, and again the items that the service had no room for.
    def assess_patiently(items, deadline: @deadline, **options)
      ends = now + deadline
      results = assess_batch(items, deadline: deadline, **options)
      @retries.times do |attempt|
        busy = results.each_index.select { |row| BUSY.include?(results[row].dig("error", "type")) }
        wait = pause(attempt)
        break if busy.empty? || now + wait >= ends

        sleep(wait)
        again = assess_batch(busy.map { |row| items[row] }, deadline: ends - now, **options)
        busy.zip(again) { |row, result| results[row] = result }
      end
      results
    end

    # A request where all items are wrong is refused as a whole: here too each item has its error.
    def assess_batch(items, **options)
      request(Net::HTTP::Post, "/v1/assess", { input: items }, **options)["results"]
    rescue ServiceError => e
      raise if e.status != 422 || items.length == 1

      items.map { |item| assess_alone(item, **options) }
    end

    def assess_alone(item, **options)
      request(Net::HTTP::Post, "/v1/assess", { input: [item] }, **options)["results"].first
    rescue ServiceError => e
      raise if e.status != 422

      { "error" => { "type" => e.type, "message" => e.message } }
    end

    def request(kind, path, body, deadline: @deadline, request_id: SecureRandom.uuid)
      ends = now + deadline
      attempt = 0
      begin
        attempt(kind, path, body, ends, request_id)
      rescue ServiceError => e
        wait = e.retry_after || pause(attempt)
        raise if !e.may_retry? || attempt >= @retries || now + wait >= ends

        sleep(wait)
        attempt += 1
        retry
      end
    end

    def attempt(kind, path, body, ends, request_id)
      uri = URI(@url + path)
      left = [ends - now, 0.001].max
      http = kind.new(uri, headers(left, request_id))
      http.body = JSON.generate(readable(body)) if body
      options = { use_ssl: uri.scheme == "https", open_timeout: left, read_timeout: left, write_timeout: left, max_retries: 0 }
      read(Net::HTTP.start(uri.host, uri.port, **options) { |open| open.request(http) }, request_id)
    rescue Timeout::Error
      raise ServiceError.new("no answer within the deadline", type: "deadline", request_id: request_id)
    rescue SystemCallError, SocketError, EOFError, IOError, OpenSSL::SSL::SSLError => e
      # After a refused connection nothing was sent.
      raise ServiceError.new("#{@url}: #{e.message}", request_id: request_id, may_retry: e.is_a?(Errno::ECONNREFUSED))
    end

    # JSON carries no bytes that are not UTF-8: U+FFFD stands for them, so that one bad text fails no batch.
    def readable(value)
      case value
      when String then value.encode("UTF-8", invalid: :replace, undef: :replace).scrub("\uFFFD")
      when Array then value.map { |each| readable(each) }
      when Hash then value.transform_values { |each| readable(each) }
      else value
      end
    end

    # Seconds to wait, spread so that refused callers do not come back together.
    def pause(attempt)
      [LONGEST_WAIT, FIRST_WAIT * (2**attempt)].min * rand(0.5..1.0)
    end

    def headers(left, request_id)
      given = { "Content-Type" => "application/json", "X-Request-ID" => request_id,
                "X-Deadline-Ms" => [(left * 1000).to_i, 1].max.to_s }
      given["Authorization"] = "Bearer #{@api_key}" if @api_key
      given
    end

    def read(response, request_id)
      status = response.code.to_i
      content = parse(response.body, status, request_id)
      return content if status == 200

      error = content.is_a?(Hash) && content["error"].is_a?(Hash) ? content["error"] : {}
      raise ServiceError.new(
        error["message"] || "status #{status}",
        status: status, type: error["type"] || "refused", request_id: request_id,
        retry_after: Float(response["Retry-After"], exception: false), may_retry: [429, 503].include?(status)
      )
    end

    def parse(body, status, request_id)
      Merchantguard.parse(body.to_s)
    rescue JSON::ParserError
      # A proxy's page: its status says what happened, unless it claims success.
      raise ServiceError.new("the answer is not JSON", status: status, type: "protocol", request_id: request_id) if status == 200
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
