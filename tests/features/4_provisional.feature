# Source: transport requirements, section 4.
Feature: Sending messages without asking first

  Background:
    Given the providers a.example and b.example
    And alice and amy at a.example
    And bob and carol at b.example
    And the room den of a.example with alice, bob and carol

  @R4-01 @R4-04 @R5-01
  Scenario: members of the hub and of a follower send, and everybody gets everything
    When alice sends "good morning"
    And bob sends "hello"
    Then alice, bob and carol have received "good morning" and "hello"
    And every message of alice and bob has its verdict

  @R4-05
  Scenario: a message five epochs behind is taken
    When alice commits 5 times
    And bob, who has not heard of it, sends "from the past"
    Then bob's message is accepted
    And alice and carol have received "from the past"

  @R4-03 @R4-05
  Scenario: a message six epochs behind is refused, and its sender is told
    When alice commits 6 times
    And bob, who has not heard of it, sends "from long ago"
    Then bob's message is refused as EpochTooOld
    And alice, bob and carol agree on epoch 7
    And none of them has seen "from long ago"

  @R4-08
  Scenario: a message of an epoch that does not exist yet is refused
    When bob believes in a Commit of his that the hub never saw, and sends "from the future"
    Then bob's message is refused as EpochAhead
    And alice and carol have not received "from the future"

  @R4-03 @R4-06 @R5-26
  Scenario: a message of a member who was removed meanwhile is queued, then refused
    When b.example is killed
    And alice removes bob
    And a.example is killed
    And b.example is started again
    And bob sends "am I still here"
    And a.example is started again
    Then bob's message is refused as NotMember
    And alice and carol agree on epoch 2
    And alice and carol have not received "am I still here"

  @R4-07
  Scenario: a message that was taken before its sender was removed stays
    When bob sends "last words"
    Then bob's message is accepted
    When alice removes bob
    Then alice and carol agree on epoch 2
    And alice and carol have received "last words"

  @R4-12 @R5-20
  Scenario: the same frame again gets the first verdict and is not fanned out again
    When alice sends "once" and sends the frame 3 times more
    Then all answers to alice are the same
    When bob sends "twice" and sends the frame 3 times more
    And alice sends "the end"
    Then alice, bob and carol have received exactly "once", "twice" and "the end"

  @R4-12
  Scenario: what a provider submits again is not fanned out again
    When alice sends "the beginning"
    Then alice, bob and carol have received "the beginning"
    When b.example is killed
    And bob says "at most once", which the story submits to a.example 3 times
    Then alice has received exactly "the beginning" and "at most once"

  @R4-12
  Scenario: the same ciphertext under another number is the same message
    When alice sends "once" and sends its ciphertext again under the next number
    Then alice is told that it is refused under that number as Duplicate
    When bob sends "once too" and sends its ciphertext again under the next number
    Then bob is told that it is refused under that number as Duplicate
    When carol sends "the end"
    Then alice, bob and carol have received exactly "once", "once too" and "the end"

  @R4-02 @R4-04
  Scenario: many messages for many rooms go to their hub in few frames
    Given 8 rooms of a.example in one shard with alice and bob
    When a.example is killed
    And b.example is killed
    And b.example is started again
    And bob sends 40 messages to each of the rooms
    And a.example is started again
    Then every message of bob in the rooms is accepted
    And alice has received 40 messages in each of the rooms, in order
    And b.example sent a.example at least 320 submissions in at most 2 frames

  @R4-11 @R5-15
  Scenario: the messages of each sender stay in order
    When alice, bob and carol send 60 messages each at the same time
    Then alice, bob and carol have received 180 messages, each sender's in order

  @R4-04 @R5-14 @R4-11
  Scenario: the hub is killed in mid-stream, and what was acknowledged is delivered once
    When alice, bob and carol stream messages and a.example is killed
    And a.example is started again
    Then every acknowledged message is delivered to alice, bob and carol exactly once

  @R4-04 @R5-14 @R4-11
  Scenario: a follower is killed in mid-stream, and what was acknowledged is delivered once
    When alice, bob and carol stream messages and b.example is killed
    And b.example is started again
    Then every acknowledged message is delivered to alice, bob and carol exactly once

  @R4-01 @R4-04
  Scenario: a follower takes messages while the hub is down
    When a.example is killed
    And bob sends "are you there"
    And a.example is started again
    Then bob's message is accepted
    And alice, bob and carol have received "are you there"

  @R4-01
  Scenario: whoever sends to a room of another provider can wait for the verdict
    When a.example is killed
    And bob sends "are you there"
    Then bob is told at once that his message is queued
    When bob waits for the verdict, and a.example is started again
    Then bob is told, once, that his message is accepted
